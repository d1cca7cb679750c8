"""The one data structure every loader returns and every experiment reads."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError, one_line, shown


@dataclass(frozen=True, repr=False)
class DetectionData:
    """Images with their targets, one row per image.

    Parameters
    ----------
    X : ndarray
        ``(n,)`` image paths (str) or ``(n, H, W, 3)`` uint8 images.
    y : ndarray of object, shape (n,)
        One dict per image: ``boxes`` float32 ``(m, 4)`` as absolute ``x1, y1, x2, y2`` pixels, ``labels`` int64
        ``(m,)`` in ``0..C-1``, optional ``difficult`` and ``iscrowd`` bool ``(m,)``. ``None`` stands for an unlabelled
        image.
    classes : tuple of str
        Class names, in label order.
    ids : ndarray of str, shape (n,)
        A unique name for each image.
    split : str
        Name of the split the images come from.
    category_ids : tuple of int, optional
        COCO category id of each label; ``None`` for data that has none.
    skipped : tuple of str
        One line for each annotation the loader dropped because it was not usable.
    """

    X: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    ids: np.ndarray
    split: str
    category_ids: tuple[int, ...] | None = None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        targets = [target for target in self.y if target is not None]
        boxes = sum(len(target["boxes"]) for target in targets)
        first = ", ".join([*self.classes[:5], "..."] if len(self.classes) > 5 else self.classes)
        classes = f"{len(self.classes)} classes: {first}" if self.classes else "no classes"
        images = f"{len(self)} images, {len(targets)} annotated with {boxes} boxes"
        return one_line(f"DetectionData({self.split!r}, {images}, {classes})")

    def subset(self, indices) -> "DetectionData":
        """Return the rows at `indices`, in that order."""
        return replace(self, X=self.X[indices], y=self.y[indices], ids=self.ids[indices])


def make_targets(targets: Iterable) -> np.ndarray:
    """Return target dicts (or ``None``) as a 1-D object array, which survives modAL's stacking and indexing.

    Raises
    ------
    DataError
        If they are not in a sequence.
    """
    try:
        targets = list(targets)
    except TypeError:
        raise DataError(f"y: {shown(targets)} is not a sequence of targets; give one for each image") from None
    array = np.empty(len(targets), dtype=object)
    for row, target in enumerate(targets):  # not at once, or lists among them would count as rows
        array[row] = target
    return array
