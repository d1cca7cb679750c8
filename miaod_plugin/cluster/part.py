"""A detector asked about some images of a pool that lies anywhere; those that cannot be read are left out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from torch import Tensor

from ..data.image_sets import check_images
from ..data.images import EncodedImage, read_image
from ..errors import DataError
from ..estimator import ObjectDetector
from ..labeled import Labeled
from ..pool import stack_rows
from ..ranking.patient import BrokenImages, place_of
from ..ranking.stand_in import StandIn
from .shards import Located
from .stores import fetched, is_url

BATCHES = 8  # whose images are in memory at a time, as they are stored
READERS = 16  # requests to a store at a time


class PartOfPool(StandIn):
    """Stands in for a fitted detector where images are no files: a strategy asks it about them by their numbers.

    Parameters
    ----------
    estimator : ObjectDetector
    labelled : Labeled, optional
        Files, as strategies get them; what is asked about them once is kept.
    """

    def __init__(self, estimator: ObjectDetector, labelled: Labeled | None = None):
        super().__init__(estimator)
        self.labelled = labelled
        self._images: dict[str, str | EncodedImage | DataError] = {}
        self._kept: dict[str, dict[str, np.ndarray]] = {}

    def answers(self, images: Iterable[Located], ask: Callable) -> Iterator[tuple[list[str], dict, dict]]:
        """Yield names, what ``ask(detector, X)`` says of the images that can be read, and errors, some at a time.

        Answers are arrays, or lists, with a row per image that can be read; errors are by the number of an image among
        the names.
        """
        images, at_once = iter(images), BATCHES * self.estimator.score_batch_size
        while some := list(islice(images, at_once)):
            self._images = dict(zip(map(str, range(len(some))), _contents([place for _, place in some]), strict=True))
            broken = {key: place for key, place in self._images.items() if isinstance(place, DataError)}
            answer: dict = {}
            while len(broken) < len(some):
                try:
                    answer = ask(self, np.array([key for key in self._images if key not in broken]))
                    break
                except BrokenImages as error:
                    broken |= error.errors
            yield [name for name, _ in some], answer, {int(key): error for key, error in broken.items()}

    def place(self, key: str) -> str | EncodedImage:
        """Return the image with a number, as `read_image` takes it."""
        return self._images[key]

    def map_pool(self, X, reducers: Mapping[str, Callable], y=None, views=None) -> dict[str, np.ndarray]:
        """Do what `ObjectDetector.map_pool` does.

        Raises
        ------
        BrokenImages
            When all others are done.
        """
        X = check_images(X)
        if self.labelled is None or not np.array_equal(X, self.labelled.X):
            return self._looked_at(X, reducers, y, views)
        question = " ".join(f"{name} {place_of(reducer)}" for name, reducer in reducers.items())
        if question not in self._kept:
            self._kept[question] = self.estimator.map_pool(X, reducers, y, views)
        return self._kept[question]

    def _looked_at(self, X, reducers, y, views) -> dict[str, np.ndarray]:
        broken, parts, order = {}, {name: [] for name in reducers}, []
        for indices, rows in self.estimator.map_batches(
            X, reducers, broken.__setitem__, y=y, views=views, read=self._read
        ):
            order.extend(indices)
            for name, part in rows.items():
                parts[name].append(part)
        if broken:
            raise BrokenImages({str(X[row]): error for row, error in broken.items()})
        return {name: stack_rows(part)[np.argsort(order)] for name, part in parts.items()}

    def _read(self, key: str) -> Tensor:
        return read_image(self._images[key])


def _contents(places: list) -> list:
    """Return places as `read_image` takes them; objects of a store are fetched, or the error in their place."""

    def content(place):
        try:
            return place if isinstance(place, DataError) else fetched(place)
        except DataError as error:
            return error

    if not any(isinstance(place, str) and is_url(place) for place in places):
        return places
    with ThreadPoolExecutor(READERS) as threads:  # hides the latency of the store
        return list(threads.map(content, places))
