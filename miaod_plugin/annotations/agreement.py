"""Several annotators of one image: one answer where they agree, and a line that says what differs where not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pycocotools import mask
from scipy.optimize import linear_sum_assignment

from ..errors import DataError, did_you_mean, shown
from .base import Annotation


def agreed(
    annotations: Sequence[Annotation], classes: Sequence[str], iou: float = 0.5, annotator: str | None = None
) -> list[Annotation]:
    """Return one annotation of each image, in the order in which the images come first.

    Who skipped an image has no say in it where others did not. The others agree if they all find the image unusable, or
    if each one's boxes are those of the first, one to one, of the same class and overlapping at least by `iou`: then
    each box is the mean of theirs, the annotator all their names, and the time the last one's.

    Parameters
    ----------
    annotations : sequence of Annotation
    classes : sequence of str
        Class names in label order, for messages.
    iou : float, default=0.5
        In (0, 1].
    annotator : str, optional
        Whose annotation to keep of each image that this annotator has annotated.

    Raises
    ------
    DataError
        If annotators of an image do not agree, or `annotator` has made none of the annotations.
    """
    known = {one.annotator for one in annotations if one.annotator is not None}
    if annotator is not None and annotator not in known:
        raise DataError(
            f"annotator {shown(annotator)} has made none of the annotations{did_you_mean(annotator, known)}"
        )
    images: dict[str, list[Annotation]] = {}
    for one in annotations:
        images.setdefault(one.path, []).append(one)
    return [_one_of(several, classes, iou, annotator) for several in images.values()]


def _one_of(several: list[Annotation], classes: Sequence[str], iou: float, annotator: str | None) -> Annotation:
    """Return the annotation that several of one image agree on."""
    chosen = [one for one in several if one.annotator == annotator] if annotator is not None else []
    several = chosen or [one for one in several if one.state != "skipped"] or several[:1]
    first, boxes = several[0], [several[0].boxes.astype(np.float64)]
    for other in several[1:]:
        order = _matched(first, other, iou) if first.state == other.state else None
        if order is None:
            raise DataError(
                f"{first.path}: {_difference(first, other, classes, iou)}; mend it in the labelling tool, or keep one"
                " annotator's with annotator="
            )
        boxes.append(other.boxes[order])
    names = dict.fromkeys(one.annotator for one in several if one.annotator is not None)
    return replace(
        first,
        boxes=np.mean(boxes, axis=0).astype(np.float32),
        annotator=", ".join(names) or None,
        time=max((one.time for one in several if one.time is not None), default=None),
    )


def _matched(first: Annotation, other: Annotation, iou: float) -> np.ndarray | None:
    """Return the row of the other's boxes that belongs to each of the first's, None if they are not the same boxes."""
    if len(first.boxes) != len(other.boxes):
        return None
    if not len(first.boxes):
        return np.zeros(0, dtype=np.int64)
    overlaps = mask.iou(_corner_and_sides(first.boxes), _corner_and_sides(other.boxes), [0] * len(other.boxes))
    overlaps[first.labels[:, None] != other.labels[None]] = 0
    # As many pairs as can be that overlap enough come first, how much they overlap second.
    rows, columns = linear_sum_assignment((overlaps >= iou) * len(overlaps) + overlaps, maximize=True)
    return columns if (overlaps[rows, columns] >= iou).all() else None


def _corner_and_sides(boxes: np.ndarray) -> np.ndarray:
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _difference(first: Annotation, other: Annotation, classes: Sequence[str], iou: float) -> str:
    """Return what two annotators see differently."""
    one, two = (shown(annotation.annotator) for annotation in (first, other))
    if first.state != other.state:
        return f"annotator {one} finds the image {first.state}, {two} {other.state}"
    for label, name in enumerate(classes):
        counts = [int((annotation.labels == label).sum()) for annotation in (first, other)]
        if counts[0] != counts[1]:
            return f"annotators {one} and {two} drew {counts[0]} and {counts[1]} of class {shown(name)}"
    return f"annotators {one} and {two} drew boxes that overlap by less than {iou:g}"
