"""What the detections on a fixed set of images say about a detector without knowing the truth."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import entr

LEAST_SCORE, LEAST_IOU = 0.3, 0.5  # of a detection that counts, and of two that are the same


def agreement(predictions: Sequence[dict], others: Sequence[dict]) -> float | None:
    """Return how far two detectors find the same objects in the same images, from 0 to 1.

    F1 of one's detections against the other's: twice the pairs of one class that overlap by an IoU of 0.5 or more over
    all detections of both. Those with a score below 0.3 do not count; None where there is none.

    Parameters
    ----------
    predictions, others : sequences of dict
        As `ObjectDetector.predict` returns them, for the same images.

    References
    ----------
    Bloodgood and Vijay-Shanker, *A method for stopping active learning based on stabilizing predictions*, CoNLL 2009,
    where classifiers agree by Cohen's kappa.
    """
    pairs = total = 0
    for one, other in zip(predictions, others, strict=True):
        for boxes, theirs in _by_class(one, other):
            total += len(boxes) + len(theirs)
            if len(boxes) and len(theirs):
                same = _iou(boxes, theirs) >= LEAST_IOU
                pairs += int(same[linear_sum_assignment(same, maximize=True)].sum())
    return 2 * pairs / total if total else None


def uncertainty(predictions: Sequence[dict]) -> float | None:
    """Return the mean over the images of the largest binary entropy of a detection's score, in nats.

    An image without detections counts as certain; None without images.

    References
    ----------
    Zhu, Wang and Hovy, *Multi-criteria-based strategy to stop active learning for data annotation*, COLING 2008:
    overall uncertainty.
    """
    scores = [np.asarray(one["scores"], dtype=float) for one in predictions]
    entropies = [float((entr(values) + entr(1 - values)).max(initial=0.0)) for values in scores]
    return float(np.mean(entropies)) if entropies else None


def _by_class(one: dict, other: dict) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the boxes of each class that count, of both."""
    kept = []
    for found in (one, other):
        keep = np.asarray(found["scores"]) >= LEAST_SCORE
        kept.append((np.asarray(found["boxes"], dtype=float)[keep], np.asarray(found["labels"])[keep]))
    for label in np.union1d(kept[0][1], kept[1][1]):
        yield tuple(boxes[labels == label] for boxes, labels in kept)


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of each two boxes, ``(n, m)``."""
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others)]
    return shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-12)
