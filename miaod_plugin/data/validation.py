"""The one place that decides whether an annotation is usable; every loader passes its boxes through here.

A loader lists the boxes of a whole split as one flat table (a row per box), so that a million of them are checked at
once; only a bad one costs Python, to write the line that tells what is wrong with it.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, DataError, did_you_mean, shown
from .detection_data import make_targets
from .orientation import Frames
from .paths import is_writable

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
    hint: str = ""  # what to look at when the box is outside its image, whichever way that is turned
    mend: str = "fix it or pass on_error='skip'"


def check_on_error(on_error: str) -> None:
    """Raise a ConfigError unless `on_error` is ``"raise"`` or ``"skip"``."""
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error={shown(on_error)} is not allowed{did_you_mean(on_error, ('raise', 'skip'))}")


def usable_images(
    frames: Frames, told: np.ndarray, describe: Callable[[int], str], on_error: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Compare the sizes that annotations tell with those of the images: boxes of another size belong elsewhere.

    Parameters
    ----------
    frames : Frames
    told : float ndarray of shape (n_images, 2)
        Height and width that the annotations tell; NaN or 0 where they do not.
    describe : callable
        Names the size in the annotation of an image.
    on_error : {"raise", "skip"}
        Raise at the first contradiction, or leave out exactly these images and log a warning for each.

    Returns
    -------
    usable : bool ndarray of shape (n_images,)
    skipped : tuple of str
        One line for each image that is left out.
    """
    contradicted = (np.isfinite(told) & (told > 0)).all(axis=1) & (told != frames.sizes).any(axis=1)
    skipped = []
    for row in np.flatnonzero(contradicted).tolist():
        (height, width), (true_height, true_width) = told[row], frames.sizes[row]
        problem = f"{describe(row)}: is {width:.10g} x {height:.10g}, but the image is {true_width} x {true_height}"
        if on_error == "raise":
            turned = (told[row] == frames.others[row]).all()
            mend = frames.exif_hint(row) if turned else "fix the one that is wrong or pass on_error='skip'"
            raise DataError(f"{problem}; {mend}")
        skipped.append(f"{problem}; left out the image")
        logger.warning("skipped annotation: %s", skipped[-1])
    if contradicted.all():
        raise DataError(f"{skipped[0]}, as all others; give the images that the annotations belong to")
    return ~contradicted, tuple(skipped)


def as_told(frames: Frames, told: np.ndarray, source: str | Path) -> Frames:
    """Return the frames by the one orientation that the `told` sizes are of, `frames` as they are where none tells.

    Warns where images are turned by EXIF and nothing tells which way their boxes were drawn.
    """
    telling = (frames.sizes != frames.others).any(axis=1)
    ours, others = ((telling & (told == sizes).all(axis=1)).any() for sizes in (frames.sizes, frames.others))
    if others and not ours:
        return frames.otherwise()
    turned = int((frames.turns != 1).sum())
    if turned and not ours:
        warnings.warn(
            f"{source}: {turned} images are turned by their EXIF orientation; their boxes are taken to count on"
            f" {frames.orientation} pixels; pass orientation='stored' or orientation='upright'",
            stacklevel=4,
        )
    return frames


def usable_boxes(
    table: BoxTable,
    frames: Frames,
    images: np.ndarray,
    classes: Sequence[str],
    describe: Callable[[int], Described],
    on_error: str,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Check every box of a table.

    Parameters
    ----------
    table : BoxTable
    frames : Frames
        From the images themselves, whatever the annotations tell.
    images : bool ndarray of shape (n_images,)
        Which images are kept; the boxes of others go without a word.
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
        Their boxes on the upright images, clipped where rounding made them stick out by at most half a pixel.
    skipped : tuple of str
        One line for each box that was dropped.

    Raises
    ------
    DataError
        For a bad annotation, when `on_error` is ``"raise"``.
    """
    known = np.maximum(table.images, 0)  # what belongs to no image is not usable, whatever the size
    limits = np.tile(frames.sizes[:, ::-1], 2)[known]
    overhang = np.maximum(-table.boxes, table.boxes - limits)
    boxes = frames.upright(np.clip(table.boxes, 0, limits), known).astype(np.float32)
    finite = np.isfinite(table.boxes).all(axis=1)
    usable = finite & (table.images >= 0) & (table.labels >= 0) & ~table.empty
    # Degenerate is also what float32 cannot tell from an empty box.
    usable &= (overhang <= SLACK).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)

    kept = (table.images < 0) | images[known]
    skipped = []
    for row in np.flatnonzero(~usable & kept).tolist():
        described = describe(row)
        problem = _problem(table, row, finite[row], overhang[row], limits[row], described)
        if on_error == "raise":
            hint = _hint(table, row, overhang[row], frames, classes, described)
            raise DataError(f"{described.where}: {problem}; {described.mend}{hint}")
        skipped.append(f"{described.where}: {problem}")
        logger.warning("skipped annotation: %s", skipped[-1])
    keep = np.flatnonzero(usable & kept)
    return keep, boxes[keep], tuple(skipped)


def _problem(table, row, finite, overhang, limits, described: Described) -> str:
    """Return what is wrong with a bad row."""
    if table.images[row] < 0:
        return f"{described.image} is not among the images"
    if table.labels[row] < 0:
        return f"unknown class {shown(described.class_name)}"
    if not finite:
        return f"{described.box} is not four finite numbers"
    if not table.empty[row] and (overhang > SLACK).any():
        width, height = limits[:2]
        return f"{described.box} reaches outside its {width:.0f} x {height:.0f} image"
    return f"{described.box} is degenerate: it has no area"


def _hint(table, row, overhang, frames: Frames, classes, described: Described) -> str:
    """Return what may mend a bad row."""
    image = table.images[row]
    if image < 0:
        return ""
    if table.labels[row] < 0:
        return did_you_mean(described.class_name, classes)
    if table.empty[row] or not np.isfinite(overhang).all() or not (overhang > SLACK).any():
        return ""
    limits = np.tile(frames.others[image, ::-1], 2)
    fits = (np.maximum(-table.boxes[row], table.boxes[row] - limits) <= SLACK).all()
    return f"; {frames.exif_hint(image)}" if fits else described.hint


def group_by_image(n_images: int, images: np.ndarray, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return one target dict per image from flat `columns` (boxes, labels, ...), in the order of the table."""
    order = np.argsort(images, kind="stable")
    ends = np.searchsorted(images[order], np.arange(n_images), side="right")
    starts = np.concatenate([[0], ends])[:-1]
    columns = {name: values[order] for name, values in columns.items()}
    return make_targets(
        [{name: values[start:end] for name, values in columns.items()} for start, end in zip(starts, ends, strict=True)]
    )


def check_class_names(classes: Sequence[str], source: str) -> tuple[str, ...]:
    """Return `classes` as a tuple of distinct names, or raise a DataError that names `source`."""
    if not isinstance(classes, str | Iterable):
        raise DataError(f"{source}: classes={shown(classes)} is not a sequence of names")
    classes = (classes,) if isinstance(classes, str) else tuple(classes)
    seen = set()
    for k, name in enumerate(classes):
        if not isinstance(name, str) or not name.strip() or not is_writable(name):
            raise DataError(f"{source}: class {k} is {shown(name)}; give every class a name of one line")
        if name in seen:
            raise DataError(f"{source}: class {shown(name)} is listed twice; name each class once")
        seen.add(name)
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
    for row, target in enumerate(make_targets(y)):
        if target is None:
            continue
        if not isinstance(target, dict) or not {"boxes", "labels"} <= target.keys():
            raise DataError(f"y[{row}] must be None or a dict with 'boxes' and 'labels', not {shown(target)}")
        boxes, labels = _array(target, "boxes", row), _array(target, "labels", row)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DataError(f"y[{row}]['boxes'] has shape {boxes.shape}; it must be (m, 4), also for m = 0")
        for field in ("labels", "difficult", "iscrowd"):
            shape = _array(target, field, row).shape if field in target else boxes.shape[:1]
            if shape != boxes.shape[:1]:
                raise DataError(f"y[{row}]['{field}'] has shape {shape}; it must be {boxes.shape[:1]}, one per box")
        if len(labels) and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes):
            raise DataError(
                f"y[{row}]['labels'] is {shown(labels.tolist())}; expected integers from 0 to {n_classes - 1}, one"
                " for each class; load every split with classes=data.classes of the training split"
            )
        good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if not good.all():
            k = int(np.argmin(good))
            raise DataError(f"y[{row}]['boxes'][{k}] is {boxes[k].tolist()}; finite x1 < x2 and y1 < y2 expected")


def _array(target: dict, field: str, row: int) -> np.ndarray:
    """Return a field of a target as an array of numbers."""
    try:
        array = np.asarray(target[field])
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors that are not on the CPU
        array = None
    if array is None or array.dtype.kind not in "biuf":
        raise DataError(f"y[{row}]['{field}'] is {shown(target[field])}; an array of numbers expected")
    return array
