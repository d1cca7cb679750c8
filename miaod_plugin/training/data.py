"""What a detector is given to learn from, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data import check_targets
from ..data.image_sets import check_annotated_images, images_like
from ..errors import DataError


@dataclass(frozen=True)
class TrainingData:
    """Annotated images with their targets, images without annotation, and the names of the classes."""

    X: np.ndarray
    y: np.ndarray
    unlabeled: np.ndarray
    classes: np.ndarray


def check_training_data(X, y, unlabeled, classes: Sequence | None) -> TrainingData:
    """Return what a fit is given in its parts; without `classes` they are numbered up to the largest label.

    Raises
    ------
    DataError
        If the images or targets are not of the form that `ObjectDetector.fit` takes, or none is annotated.
    """
    X, y = check_annotated_images(X, y)
    labeled = np.array([target is not None for target in y], dtype=bool)
    if not labeled.any():
        raise DataError("y: every target is None; at least one image must be annotated")
    check_targets(y, len(classes) if classes is not None else np.iinfo(np.int64).max)
    if classes is None:
        most = max((int(target["labels"].max()) for target in y[labeled] if len(target["labels"])), default=0)
        classes = range(most + 1)
    others = X[~labeled]
    if unlabeled is not None:
        others = np.concatenate([others, images_like(X, unlabeled, "unlabeled")])
    return TrainingData(X[labeled], y[labeled], others, np.array([str(name) for name in classes]))


def as_many(unlabeled: np.ndarray, n_labeled: int, seed: int) -> np.ndarray:
    """Return a random subset of unlabelled images, in order, as large as the labelled set where there are as many.

    MI-AOD trains on as many unlabelled images as labelled ones (Yuan et al., CVPR 2021, section 4.1).
    """
    count = min(n_labeled, len(unlabeled))
    return unlabeled[np.sort(np.random.default_rng((seed, 2)).choice(len(unlabeled), count, replace=False))]
