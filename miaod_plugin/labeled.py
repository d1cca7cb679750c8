"""The images annotated so far, which a query may start from or train on."""

from typing import NamedTuple

import numpy as np

from .data.image_sets import check_annotated_images, check_images
from .errors import DataError


class Labeled(NamedTuple):
    """Annotated images, and their targets; ``None`` where only the images are known."""

    X: np.ndarray
    y: np.ndarray | None = None


def labeled_images(estimator, labeled=None) -> Labeled | None:
    """Return the annotated images that a query was given, or else those that the estimator was fitted on.

    Parameters
    ----------
    estimator : ObjectDetector
    labeled : ndarray, or tuple (X, y), optional
        Images, or images and targets, of which those without a target are left out.

    Returns
    -------
    Labeled or None
        ``None`` if nothing was given and the estimator was not fitted in this process: a saved one forgets its images.

    Raises
    ------
    DataError
        If `labeled` is neither.
    """
    if labeled is None:
        X = getattr(estimator, "X_labeled_", None)
        return None if X is None else Labeled(X, getattr(estimator, "y_labeled_", None))
    if isinstance(labeled, tuple) and len(labeled) != 2:
        raise DataError(
            f"labeled: a tuple of {len(labeled)} is not allowed; give images X, or (X, y) with their targets"
        )
    X, y = labeled if isinstance(labeled, tuple) else (labeled, None)
    if y is None:
        return Labeled(check_images(X, "labeled"))
    X, y = check_annotated_images(X, y)
    annotated = np.array([target is not None for target in y], dtype=bool)
    return Labeled(X[annotated], y[annotated])
