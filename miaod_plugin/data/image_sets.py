"""What a set of images is, with or without targets, and which sets can stand beside each other."""

import numpy as np

from ..errors import DataError, shown
from .detection_data import make_targets


def check_images(X, name: str = "X") -> np.ndarray:
    """Return images as an array of paths ``(n,)`` of str, or uint8 ``(n, H, W, 3)``, or raise a DataError."""
    try:
        array = X if isinstance(X, np.ndarray) else np.asarray(None if isinstance(X, str) else list(X))
    except (TypeError, ValueError):  # no sequence, or images of several sizes
        array = np.asarray(None)
    if array.ndim == 1 and array.dtype.kind == "O" and all(isinstance(x, str) for x in array):
        array = array.astype(str)
    if array.ndim == 1 and (array.dtype.kind == "U" or not len(array)):
        return array
    if array.ndim == 4 and array.shape[3] == 3 and array.dtype == np.uint8:
        return array
    given = f"{array.dtype} of shape {array.shape}" if array.ndim else shown(X)
    raise DataError(f"{name}: {given} is not a set of images; give paths (n,) of str or uint8 (n, H, W, 3)")


def check_annotated_images(X, y) -> tuple[np.ndarray, np.ndarray]:
    """Return images as `check_images` does, and their targets as an object array ``(n,)``, or raise a DataError."""
    X, y = check_images(X), make_targets(y)
    if len(X) != len(y):
        raise DataError(f"y: {len(y)} targets for {len(X)} images; give one for each, None where unlabelled")
    return X, y


def images_like(X: np.ndarray, more, name: str) -> np.ndarray:
    """Return more images as `check_images` does if they can stand beside X, or raise a DataError that names them."""
    more = check_images(more)
    if not len(more):
        return X[:0]
    if more.shape[1:] != X.shape[1:] or more.dtype.kind != X.dtype.kind:
        forms = ["paths" if one.ndim == 1 else f"arrays of {one.shape[1]} x {one.shape[2]}" for one in (more, X)]
        raise DataError(f"{name}: {forms[0]} beside {forms[1]}; give images of one form, paths or equal-sized arrays")
    return more
