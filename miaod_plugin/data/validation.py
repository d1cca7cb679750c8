"""The one place that decides whether an annotation is usable; every loader passes its boxes through here.

A loader lists the boxes of a whole split as one flat table (a row per box), so that a million of them are checked at
once; only a bad one costs Python, to write the line that tells what is wrong with it.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from miaod_plugin.data.detection_data import make_targets
from miaod_plugin.errors import ConfigError, DataError, did_you_mean

logger = logging.getLogger("miaod_plugin")

# Files round their numbers (COCO: two decimals), so a box may stick out by this many pixels; it is clipped.
SLACK = 0.5


class BoxTable(NamedTuple):
    """Boxes of a whole split before they are checked, one row per box.

    - ``boxes`` float64 ``(N, 4)``: 0-based ``x1, y1, x2, y2``, NaN where the file has no number;
    - ``labels`` int64 ``(N,)``: -1 for a class that is not known;
    - ``images`` int64 ``(N,)``: row of the image, -1 for one that is not known;
    - ``empty`` bool ``(N,)``: boxes without area by the rules of the file's format.
    """

    boxes: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    empty: np.ndarray


class Described(NamedTuple):
    """How to name one annotation in a message."""

    where: str  # file and object
    box: str  # field and value as the file has it
    class_name: str
    image: str
    hint: str = ""  # what to look at when the box is outside its image


def check_on_error(on_error: str) -> None:
    """Raise a ConfigError unless `on_error` is ``"raise"`` or ``"skip"``."""
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error={on_error!r} is not allowed{did_you_mean(str(on_error), ('raise', 'skip'))}")


def usable_boxes(
    table: BoxTable, sizes: np.ndarray, classes: Sequence[str], describe: Callable[[int], Described], on_error: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Check every box of a table.

    Parameters
    ----------
    table : BoxTable
    sizes : int64 ndarray of shape (n_images, 2)
        Height and width of each image, from the images themselves.
    classes : sequence of str
    describe : callable
        Names the annotation of a table row.
    on_error : {"raise", "skip"}
        Raise at the first bad annotation, or drop exactly the bad ones and log a warning for each.

    Returns
    -------
    keep : int64 ndarray of shape (k,)
        Rows of the usable boxes.
    boxes : float32 ndarray of shape (k, 4)
        Their boxes, clipped where rounding made them stick out of the image by at most half a pixel.
    skipped : tuple of str
        One line for each box that was dropped.

    Raises
    ------
    DataError
        For a bad annotation, when `on_error` is ``"raise"``.
    """
    limits = np.tile(sizes[:, ::-1], 2)[table.images] if len(sizes) else np.zeros_like(table.boxes)
    overhang = np.maximum(-table.boxes, table.boxes - limits)
    boxes = np.clip(table.boxes, 0, limits).astype(np.float32)
    finite = np.isfinite(table.boxes).all(axis=1)
    usable = finite & (table.images >= 0) & (table.labels >= 0) & ~table.empty
    # Degenerate is also what float32 cannot tell from an empty box.
    usable &= (overhang <= SLACK).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)

    skipped = []
    for row in np.flatnonzero(~usable):
        described = describe(int(row))
        problem, hint = _problem(table, row, finite[row], overhang[row], limits[row], classes, described)
        if on_error == "raise":
            raise DataError(f"{described.where}: {problem}; fix it or pass on_error='skip'{hint}")
        skipped.append(f"{described.where}: {problem}")
        logger.warning("skipped annotation: %s", skipped[-1])
    keep = np.flatnonzero(usable)
    return keep, boxes[keep], tuple(skipped)


def _problem(table, row, finite, overhang, limits, classes, described: Described) -> tuple[str, str]:
    """Return what is wrong with a bad row, and a hint."""
    if table.images[row] < 0:
        return f"{described.image} is not among the images", ""
    if table.labels[row] < 0:
        return f"unknown class {described.class_name!r}", did_you_mean(described.class_name, classes)
    if not finite:
        return f"{described.box} is not four finite numbers", ""
    if not table.empty[row] and (overhang > SLACK).any():
        width, height = limits[:2]
        return f"{described.box} reaches outside its {width:.0f} x {height:.0f} image", described.hint
    return f"{described.box} is degenerate: it has no area", ""


def group_by_image(n_images: int, images: np.ndarray, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return one target dict per image from flat `columns` (boxes, labels, ...), in the order of the table."""
    order = np.argsort(images, kind="stable")
    ends = np.searchsorted(images[order], np.arange(n_images), side="right")
    starts = np.concatenate([[0], ends[:-1]])
    columns = {name: values[order] for name, values in columns.items()}
    return make_targets(
        [{name: values[start:end] for name, values in columns.items()} for start, end in zip(starts, ends, strict=True)]
    )


def check_class_names(classes: Sequence[str], source: str) -> tuple[str, ...]:
    """Return `classes` as a tuple of distinct names, or raise a DataError that names `source`."""
    classes = (classes,) if isinstance(classes, str) else tuple(classes)
    for k, name in enumerate(classes):
        if not isinstance(name, str) or not name:
            raise DataError(f"{source}: class {k} is {name!r}; give every class a name")
        if name in classes[:k]:
            raise DataError(f"{source}: class {name!r} is listed twice; name each class once")
    return classes


def check_targets(y: Sequence[dict | None], n_classes: int) -> None:
    """Check targets that were made in memory, such as the answers of an annotator.

    Parameters
    ----------
    y : sequence of dict or None
        As in `DetectionData.y`; ``None`` (unlabelled) passes.
    n_classes : int

    Raises
    ------
    DataError
        For the first target that does not keep the contract: names the row, the field and the value.
    """
    for row, target in enumerate(y):
        if target is None:
            continue
        if not isinstance(target, dict) or not {"boxes", "labels"} <= target.keys():
            raise DataError(f"y[{row}] must be None or a dict with 'boxes' and 'labels', not {_short(target)}")
        boxes, labels = np.asarray(target["boxes"]), np.asarray(target["labels"])
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DataError(f"y[{row}]['boxes'] has shape {boxes.shape}; it must be (m, 4), also for m = 0")
        for field in ("labels", "difficult", "iscrowd"):
            if field in target and np.shape(target[field]) != boxes.shape[:1]:
                shape = np.shape(target[field])
                raise DataError(f"y[{row}]['{field}'] has shape {shape}; it must be {boxes.shape[:1]}, one per box")
        if len(labels) and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes):
            raise DataError(
                f"y[{row}]['labels'] is {_short(labels.tolist())}; expected integers from 0 to {n_classes - 1}"
            )
        good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if not good.all():
            k = int(np.argmin(good))
            raise DataError(f"y[{row}]['boxes'][{k}] is {boxes[k].tolist()}; finite x1 < x2 and y1 < y2 expected")


def _short(value: object) -> str:
    text = repr(value)
    return " ".join((text if len(text) <= 80 else text[:77] + "...").split())
