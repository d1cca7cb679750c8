"""A detector for long passes over image files: it tells how far it is, goes past broken files and keeps its rows."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from ..data import make_targets
from ..data.image_sets import check_annotated_images, check_images
from ..errors import DataError
from ..estimator import ObjectDetector
from .row_file import RowFile, image_identity
from .stand_in import StandIn

MOST_NAMED = 20  # broken images in one message
SAVE_EVERY = 30.0  # seconds


class BrokenImages(DataError):
    """Images that cannot be read, all those of a pass.

    Attributes
    ----------
    errors : dict of DataError
        By the path of the image.
    """

    def __init__(self, errors: Mapping[str, DataError]):
        self.errors = dict(errors)
        more = f" and {len(errors) - MOST_NAMED} more" if len(errors) > MOST_NAMED else ""
        named = f"{', '.join(list(errors)[:MOST_NAMED])}{more}"
        super().__init__(f"{len(errors)} images cannot be read: {named}; replace these files or leave them out")


class PatientDetector(StandIn):
    """Stands in for a fitted detector where a query takes long, so that nothing of it is lost.

    A pass over image files goes on to its end, whatever is broken, and only then raises `BrokenImages`. Its rows are
    kept: asking the same of the images that are left, in this process or the next one, costs nothing.

    Parameters
    ----------
    estimator : ObjectDetector
    rows : RowFile
        Where rows are kept; saved now and then, and whenever a pass ends, by Ctrl-C too.
    on_progress : callable
        Called with how many images of a pass are done and how many there are; first with those done before.
    name : str
        What tells its rows from those of other detectors in the file.
    """

    def __init__(
        self, estimator: ObjectDetector, rows: RowFile, on_progress: Callable[[int, int], None], name: str = ""
    ):
        super().__init__(estimator)
        self.rows, self.on_progress, self.name = rows, on_progress, name
        self._passes = 0

    @property
    def members(self) -> list["PatientDetector"]:
        """Stand-ins for the members of a `Committee`, at the begin of a query; other detectors have none."""
        members = enumerate(self.estimator.members)
        return [PatientDetector(one, self.rows, self.on_progress, f"member {k} ") for k, one in members]

    def begin(self) -> None:
        """Expect a query from its first pass on: rows are told apart by which pass of a query they come from."""
        self._passes = 0

    def map_pool(self, X, reducers: Mapping[str, Callable], y=None, views=None) -> dict[str, np.ndarray]:
        """Do what `ObjectDetector.map_pool` does, looking only at images that it has no rows of.

        Raises
        ------
        BrokenImages
            When all others are done.
        """
        X, y = (check_images(X), None) if y is None else check_annotated_images(X, y)
        images = [image_identity(path) for path in X]
        question = f"{self.name}{self._passes}"
        questions = {name: f"{question} {name} {place_of(reducer)}" for name, reducer in reducers.items()}
        self._passes += 1
        known = set.intersection(*(set(self.rows.rows(question).of) for question in questions.values()))
        new = [k for k, image in enumerate(images) if image not in known]
        look = partial(self.estimator.map_batches, X[new], reducers, y=None if y is None else y[new], views=views)
        self._look_at(X, images, new, look, questions)
        return {name: _gather(self.rows.rows(question), images) for name, question in questions.items()}

    def _look_at(self, X, images: list[bytes], new: list[int], look: Callable, questions: dict[str, str]) -> None:
        self.on_progress(len(X) - len(new), len(X))
        if not new:
            return
        broken: dict[int, DataError] = {}
        done, saved = len(X) - len(new), time.monotonic()
        try:
            for batch, rows in look(on_broken=broken.__setitem__):
                for name, question in questions.items():
                    self.rows.add(question, [images[new[k]] for k in batch], rows[name])
                if time.monotonic() - saved >= SAVE_EVERY:
                    self.rows.save()
                    saved = time.monotonic()
                done += len(batch)
                self.on_progress(done + len(broken), len(X))
        finally:
            self.rows.save()
        if broken:
            raise BrokenImages({str(X[new[k]]): error for k, error in broken.items()})


def place_of(reducer: Callable) -> str:
    """Return where a reducer is written, which tells the passes of one strategy from those of another version of it."""
    kind = reducer if hasattr(reducer, "__qualname__") else type(reducer)
    return f"{kind.__module__}.{kind.__qualname__}"


def _gather(known, images: list[bytes]) -> np.ndarray:
    rows = [known.of[image] for image in images]
    return make_targets(rows) if known.listed else np.stack(rows)
