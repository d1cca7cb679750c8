"""Average precision of detections: PASCAL VOC (11-point or area) and COCO (by pycocotools)."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .errors import MiaodError, did_you_mean, shown


class Boxes(NamedTuple):
    """The boxes of all images, end to end in image order, one row per box."""

    image: np.ndarray  # (n,) index of the box's image
    boxes: np.ndarray  # (n, 4) float64, x1, y1, x2, y2
    labels: np.ndarray  # (n,) int64
    scores: np.ndarray  # (n,) float64, zeros for ground truth
    ignored: np.ndarray  # (n,) bool, difficult or crowd
    area: np.ndarray  # (n,) float64, square pixels

    def rows(self, selection: np.ndarray) -> "Boxes":
        return Boxes(*(column[selection] for column in self))


def voc_average_precision(
    predictions: Sequence[dict],
    targets: Sequence[dict],
    num_classes: int,
    iou_threshold: float = 0.5,
    method: str = "11point",
) -> dict:
    """Mean average precision as PASCAL VOC defines it.

    A detection belongs to the ground truth of its image and class that it overlaps most. If that overlap reaches
    `iou_threshold`, the best detection of each box is right and the others are wrong; a detection of a ``difficult`` or
    ``iscrowd`` box counts neither way. Equal scores rank in the order given.

    Parameters
    ----------
    predictions : sequence of dict
        One per image: ``boxes`` ``(k, 4)`` as ``x1, y1, x2, y2`` in pixels, ``labels`` ``(k,)``, ``scores`` ``(k,)``.
    targets : sequence of dict
        One per image: ``boxes`` ``(m, 4)``, ``labels`` ``(m,)``, optional ``difficult`` and ``iscrowd`` bool ``(m,)``.
    num_classes : int
        Labels are in ``0..num_classes - 1``.
    iou_threshold : float, default=0.5
        In (0, 1].
    method : {"11point", "area"}, default="11point"
        Mean of the best precision at recalls 0, 0.1, ..., 1 (VOC 2007) or the area under that curve (since VOC 2010).

    Returns
    -------
    dict
        ``per_class``: a float in 0..1 per class, ``None`` for a class without (countable) ground truth; ``map``: their
        mean over the other classes, ``nan`` when there is none.

    Raises
    ------
    MiaodError
        A wrong shape, label, score, length or option, or a target that is ``None``.

    References
    ----------
    Everingham et al., *The PASCAL Visual Object Classes (VOC) Challenge*, IJCV 2010, section 4.2.
    """
    if method not in (known := ("11point", "area")):
        raise MiaodError(f"method={method!r} is not a VOC average precision{did_you_mean(str(method), known)}")
    if not 0 < iou_threshold <= 1:
        raise MiaodError(f"iou_threshold={iou_threshold!r} must be above 0 and at most 1")
    detections, truth = check_boxes(predictions, targets, num_classes)
    detections = detections.rows(np.argsort(-detections.scores, kind="stable"))
    per_class = [
        _class_average_precision(
            detections.rows(detections.labels == label), truth.rows(truth.labels == label), iou_threshold, method
        )
        for label in range(num_classes)
    ]
    known_values = [value for value in per_class if value is not None]
    return {"map": float(np.mean(known_values)) if known_values else float("nan"), "per_class": per_class}


def coco_average_precision(predictions: Sequence[dict], targets: Sequence[dict], num_classes: int) -> dict:
    """Average precision as COCO defines it, computed by pycocotools: at most 100 detections per image and class.

    Parameters
    ----------
    predictions, targets, num_classes
        As in :func:`voc_average_precision`. A target may also hold ``area`` ``(m,)``, the objects' areas in square
        pixels; the boxes' areas stand in for it. ``difficult`` boxes are treated as crowds, so that both metrics
        judge the same objects.

    Returns
    -------
    dict
        ``ap`` (mean over IoU 0.50:0.05:0.95), ``ap50``, ``ap75``, and ``ap`` of the ``ap_small``, ``ap_medium`` and
        ``ap_large`` objects (bounds 32^2 and 96^2 square pixels): floats in 0..1, ``nan`` where there is no such ground
        truth (pycocotools says -1). ``per_class``: ``ap`` of each class, ``None`` for a class without ground truth.

    Raises
    ------
    MiaodError
        A wrong shape, label, score or length, or a target that is ``None``.

    References
    ----------
    Lin et al., *Microsoft COCO: Common Objects in Context*, ECCV 2014, and the COCO detection evaluation page.
    """
    detections, truth = check_boxes(predictions, targets, num_classes)
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _coco(truth, len(targets), num_classes), _coco(detections, len(targets), num_classes), "bbox"
        )
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]  # (IoU thresholds, recalls, classes, areas), -1: no ground truth

    def mean(values: np.ndarray) -> float:
        known = values[values > -1]
        return float(known.mean()) if known.size else float("nan")

    everything, *sizes = range(len(evaluation.params.areaRngLbl))  # all, small, medium, large
    per_class = [mean(precision[:, :, label, everything]) for label in range(num_classes)]
    return {
        "ap": mean(precision[..., everything]),
        "ap50": mean(precision[0, ..., everything]),
        "ap75": mean(precision[5, ..., everything]),
        **{f"ap_{evaluation.params.areaRngLbl[size]}": mean(precision[..., size]) for size in sizes},
        "per_class": [None if np.isnan(value) else value for value in per_class],
    }


def _class_average_precision(detections: Boxes, truth: Boxes, iou_threshold: float, method: str) -> float | None:
    """Average precision of one class; `detections` come best first, `truth` in image order."""
    n_positive = np.count_nonzero(~truth.ignored)
    if n_positive == 0:
        return None
    best, iou = _best_overlap(detections, truth)
    hit = iou >= iou_threshold
    ignored = hit & truth.ignored[best]
    # Every detection claims only the box it overlaps most, so the first claim on a box wins it: no greedy loop.
    claims = np.flatnonzero(hit & ~ignored)
    _, first = np.unique(best[claims], return_index=True)
    right = np.zeros(len(hit), dtype=bool)
    right[claims[first]] = True

    right = right[~ignored]
    n_right = np.cumsum(right)
    precision = n_right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or a higher one
    if method == "area":
        return float(precision[right].sum() / n_positive)
    # In floating point, like the code behind every published number: a recall of exactly 3 in 10 misses 3 * 0.1, which
    # is a little more than 0.3. Whole numbers would be cleaner and would give other values (by up to 1/11 a class).
    reached = np.searchsorted(n_right / n_positive, np.arange(11) * 0.1)
    return float(np.append(precision, 0.0)[reached].mean())


def _best_overlap(detections: Boxes, truth: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the index of the box of its image that it overlaps most (the first of equals), and the IoU."""
    start = np.searchsorted(truth.image, detections.image, side="left")
    count = np.searchsorted(truth.image, detections.image, side="right") - start
    first_pair = np.cumsum(count) - count
    # One row per (detection, box of the same image), detection by detection.
    pair_detection = np.repeat(np.arange(len(count)), count)
    pair_truth = np.arange(len(pair_detection)) + np.repeat(start - first_pair, count)

    a, b = detections.boxes[pair_detection], truth.boxes[pair_truth]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    intersection = sides.clip(min=0).prod(axis=1)
    union = _area(a) + _area(b) - intersection
    pair_iou = intersection / np.where(union > 0, union, 1.0)

    iou, best = np.zeros(len(count)), np.zeros(len(count), dtype=np.int64)
    if len(pair_iou):
        iou[count > 0] = np.maximum.reduceat(pair_iou, first_pair[count > 0])
    # Assigned backwards, so that the first of equal overlaps is the one that stays.
    maximal = np.flatnonzero(pair_iou == iou[pair_detection])[::-1]
    best[pair_detection[maximal]] = pair_truth[maximal]
    return best, iou


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)


def _coco(boxes: Boxes, n_images: int, num_classes: int) -> COCO:
    """A COCO data set in memory; annotation ids start at 1, because pycocotools takes 0 for "unmatched"."""
    coco = COCO()
    xywh = np.concatenate([boxes.boxes[:, :2], boxes.boxes[:, 2:] - boxes.boxes[:, :2]], axis=1)
    columns = (boxes.image, boxes.labels, xywh, boxes.area, boxes.scores, boxes.ignored.astype(int))
    names = ("image_id", "category_id", "bbox", "area", "score", "iscrowd")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    coco.dataset = {
        "images": [{"id": image} for image in range(n_images)],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": [dict(zip(names, row, strict=True), id=i) for i, row in enumerate(rows, start=1)],
    }
    coco.createIndex()
    return coco


def check_boxes(predictions: Sequence[dict], targets: Sequence[dict], num_classes: int) -> tuple[Boxes, Boxes]:
    """Return all detections and all ground truth, checked.

    Raises
    ------
    MiaodError
        If there are not as many of the ones as of the others, or one is not what it should be.
    """
    for name, images in (("predictions", predictions), ("targets", targets)):
        if not isinstance(images, list | tuple) and not (isinstance(images, np.ndarray) and images.ndim):
            raise MiaodError(f"{name}: {shown(images)} is not a sequence of dicts, one for each image")
    if len(predictions) != len(targets):
        raise MiaodError(f"predictions and targets differ in length: {len(predictions)} and {len(targets)} images")
    detections = _flatten(predictions, "predictions", num_classes, scored=True)
    return detections, _flatten(targets, "targets", num_classes, scored=False)


def _numbers(value: object, what: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors that are not on the CPU
        array = None
    if array is None or (array.size and array.dtype.kind not in "biuf"):
        raise MiaodError(f"{what} must be numbers, got {shown(value)}")
    return array


def _flatten(images: Sequence[dict], name: str, num_classes: int, scored: bool) -> Boxes:
    """Check the dicts of all images and lay their boxes end to end."""
    parts = [_image_boxes(image, f"{name}[{i}]", i, scored) for i, image in enumerate(images)]
    # The empty part gives the columns their types and shapes when there is no box at all.
    empty = _image_boxes({"boxes": (), "labels": (), "scores": ()}, name, 0, scored)
    flat = Boxes(*(np.concatenate(columns) for columns in zip(empty, *parts, strict=True)))
    for key, bad, rule in (
        ("labels", (flat.labels < 0) | (flat.labels >= num_classes), f"must be in 0..{num_classes - 1}"),
        ("boxes", ~np.isfinite(flat.boxes).all(axis=1), "must be finite"),
        ("scores", ~np.isfinite(flat.scores), "must be finite"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            value = getattr(flat, key)[row].tolist()
            raise MiaodError(f"{name}[{flat.image[row]}]: {key} {rule}, got {value}")
    return flat


def _image_boxes(image: dict, where: str, index: int, scored: bool) -> Boxes:
    if not isinstance(image, dict):
        what = "None: only annotated images can be scored" if image is None else f"a {type(image).__name__}, not a dict"
        raise MiaodError(f"{where} is {what}")
    for key in ("boxes", "labels", "scores") if scored else ("boxes", "labels"):
        if key not in image:
            raise MiaodError(f"{where} has no {key!r}{did_you_mean(key, image)}")
    boxes = _numbers(image["boxes"], f"{where}: boxes").astype(np.float64)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise MiaodError(f"{where}: boxes must have shape (n, 4), got {boxes.shape}")
    n = len(boxes)

    def column(key: str, default: np.ndarray, dtype: type) -> np.ndarray:
        values = _numbers(image.get(key, default), f"{where}: {key}")
        if values.shape != (n,):
            raise MiaodError(f"{where}: {key} must have shape ({n},) like its boxes, got {values.shape}")
        return values.astype(dtype)

    labels = _numbers(image["labels"], f"{where}: labels")
    if n and labels.dtype.kind not in "iu":
        raise MiaodError(f"{where}: labels must be whole numbers, got {labels.dtype}")
    no, zero = np.zeros(n, dtype=bool), np.zeros(n)
    return Boxes(
        image=np.full(n, index),
        boxes=boxes,
        labels=column("labels", no, np.int64),
        scores=column("scores", zero, np.float64) if scored else zero,
        ignored=no if scored else column("difficult", no, bool) | column("iscrowd", no, bool),
        area=_area(boxes) if scored else column("area", _area(boxes), np.float64),
    )
