"""Which images of a folder to annotate next, in an order that a person or a tool can work through."""

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..data.detection_data import DetectionData
from ..errors import DataError
from ..labeled import Labeled
from ..query import QueryStrategy
from .found import FOUND, Found, to_found
from .patient import BrokenImages, PatientDetector


def rank_images(
    detector: PatientDetector,
    strategy: QueryStrategy,
    pool: DetectionData,
    n_instances: int,
    on_broken: Callable[[BrokenImages], None] | None = None,
    labelled: Labeled | None = None,
) -> list[Found]:
    """Return the images of a pool to annotate next, best first, with what the detector finds in them.

    The detector is asked as it is: nothing trains.

    Parameters
    ----------
    detector : PatientDetector
    strategy : QueryStrategy
    pool : DetectionData
        Image files.
    n_instances : int
        How many; fewer where the pool has fewer.
    on_broken : callable, optional
        Called with the images that cannot be read, which are then left out. Without it they are an error.
    labelled : Labeled, optional
        Files of the images annotated so far, and their targets where they are known.

    Raises
    ------
    BrokenImages
        Without `on_broken`.
    DataError
        If no image is left.
    """
    while len(pool):
        detector.begin()
        try:
            picked, utilities = strategy.select(detector, pool.X, min(n_instances, len(pool)), labeled=labelled)
            chosen = pool.subset(picked)
            return to_found(chosen.ids, detector.map_pool(chosen.X, FOUND), utilities)
        except BrokenImages as error:
            if on_broken is None:
                raise
            on_broken(error)
            broken = np.array(list(error.errors))
            pool = pool.subset(~np.isin(pool.X, broken))
            if labelled is not None:
                whole = ~np.isin(labelled.X, broken)
                labelled = Labeled(*(part if part is None else part[whole] for part in labelled))
    raise DataError("there is no image left that can be read")


def ranking_key(checkpoint: Path, strategy: QueryStrategy, **options) -> str:
    """Return what the rows of a ranking follow from: the model's file, the strategy and how images are read."""
    of = f"{type(strategy).__module__}.{type(strategy).__qualname__}"
    return rows_key(checkpoint, of, strategy.get_params(), options)


def rows_key(checkpoint: Path, *more) -> str:
    """Return what rows follow from beside the images: a model's file, and more."""
    with open(checkpoint, "rb") as file:
        model = hashlib.file_digest(file, "sha256").hexdigest()
    what = [version("miaod-plugin"), model, *more]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
