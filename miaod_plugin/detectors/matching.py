"""Anchor matching over a whole batch at once.

The same numbers as torchvision's, which loops over the images in Python; for small networks that loop costs as much as
the network.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

MOST_PAIRS = 1 << 24  # of boxes and anchors compared at once: 64 MiB, whatever an image holds


def match_anchors(anchors: Tensor, targets: list[dict[str, Tensor]], foreground: float, background: float) -> Tensor:
    """Return the box that each anchor is matched to, as torchvision's `Matcher` with low-quality matches.

    Parameters
    ----------
    anchors : Tensor, (A, 4)
    targets : list of B dicts with ``boxes`` (m, 4)
    foreground, background : float
        IoU from which an anchor is a positive, and below which it is a negative.

    Returns
    -------
    Tensor of int64, (B, A)
        Index of a box of the image, -1 for background, -2 for anchors between the two thresholds.
    """
    best, nearest = _none_yet(anchors, targets)
    kept = torch.zeros_like(nearest, dtype=torch.bool)
    for first, boxes in _some_boxes(anchors, targets):
        iou = _ious(boxes, anchors)
        best, nearest = _better(best, nearest, iou, first)
        # every box keeps the anchors that overlap it most, however little
        closest = iou.amax(dim=2, keepdim=True)
        kept |= ((iou == closest) & (closest > 0)).any(dim=1)
    matches = torch.where(best < background, Matcher.BELOW_LOW_THRESHOLD, nearest)
    matches = torch.where((best >= background) & (best < foreground), Matcher.BETWEEN_THRESHOLDS, matches)
    return torch.where(kept, nearest, matches)


def match_default_boxes(anchors: Tensor, targets: list[dict[str, Tensor]], foreground: float) -> Tensor:
    """Return the box that each default box is matched to, as torchvision's `SSDMatcher`.

    A default box belongs to the box that it overlaps most, from an IoU of `foreground` on; besides, each box takes the
    default box that overlaps it most, whatever that belonged to. Arguments and result as in `match_anchors`, no -2.
    """
    best, nearest = _none_yet(anchors, targets)
    taken = torch.full_like(nearest, -1)
    counts = _counts(targets)[:, None]
    for first, boxes in _some_boxes(anchors, targets):
        iou = _ious(boxes, anchors)
        best, nearest = _better(best, nearest, iou, first)
        index = first + torch.arange(boxes.shape[1])
        index = torch.where(index < counts, index, -1).to(anchors.device, non_blocking=True)  # (B, M)
        taken.scatter_reduce_(1, iou.argmax(dim=2), index, "amax")  # of several the last takes it
    matches = torch.where(best < foreground, Matcher.BELOW_LOW_THRESHOLD, nearest)
    return torch.where(taken >= 0, taken, matches)


def _none_yet(anchors: Tensor, targets: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the values and indices of `_better` before any box was seen."""
    best = anchors.new_full((len(targets), len(anchors)), -1.0)
    return best, torch.zeros_like(best, dtype=torch.int64)


def _better(best: Tensor, nearest: Tensor, values: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Return the highest value of each anchor so far and the box it is of, both ``(B, A)``, with some boxes more.

    Theirs are `values`, ``(B, M, A)``, and `first` is the index of the first of them.
    """
    highest, box = values.max(dim=1)
    return torch.maximum(best, highest), torch.where(highest > best, first + box, nearest)


def _some_boxes(anchors: Tensor, targets: list[dict[str, Tensor]]) -> Iterator[tuple[int, Tensor]]:
    """Yield the boxes of a batch, ``(B, M, 4)``, so many at once as memory allows, with the index of the first.

    Images with fewer are filled up with points at 0, 0, which overlap nothing.
    """
    boxes = pad_sequence([target["boxes"] for target in targets], batch_first=True)
    at_once = max(1, MOST_PAIRS // (len(targets) * len(anchors)))
    for first in range(0, boxes.shape[1], at_once):
        yield first, boxes[:, first : first + at_once]


def _ious(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the IoU of boxes ``(B, M, 4)`` and anchors ``(A, 4)`` -> ``(B, M, A)``."""
    return box_iou(boxes.flatten(0, 1), anchors).view(*boxes.shape[:2], len(anchors))


@dataclass
class Positives:
    """The P anchors of a batch that are matched to a box, images in order.

    Attributes
    ----------
    image, anchor : Tensor of int64, (P,)
        Where they are.
    labels, boxes : Tensor, (P,) and (P, 4)
        What they are matched to.
    """

    image: Tensor
    anchor: Tensor
    labels: Tensor
    boxes: Tensor

    @classmethod
    def of(cls, matches: Tensor, targets: list[dict[str, Tensor]]) -> "Positives":
        """Find them in the result of `match_anchors`. It is the one time that the host waits for a GPU."""
        image, anchor = (matches >= 0).nonzero(as_tuple=True)
        counts = _counts(targets)
        starts = (counts.cumsum(0) - counts).to(matches.device, non_blocking=True)
        box = matches[image, anchor] + starts[image]
        return cls(image, anchor, *(torch.cat([target[key] for target in targets])[box] for key in ("labels", "boxes")))


def _counts(targets: list[dict[str, Tensor]]) -> Tensor:
    """Return how many boxes each image has, int64 ``(B,)`` on the CPU."""
    return torch.tensor([len(target["boxes"]) for target in targets])
