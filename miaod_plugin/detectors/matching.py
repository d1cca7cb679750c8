"""Anchor matching over a whole batch at once.

The same numbers as torchvision's, which loops over the images in Python; for small networks that loop costs as much as
the network.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

MOST_PAIRS = 1 << 24  # of boxes and anchors compared at once: 64 MiB, whatever an image holds


def match_anchors(
    anchors: Tensor, targets: list[dict[str, Tensor]], foreground: float, background: float, low_quality: bool = True
) -> Tensor:
    """Return the box that each anchor is matched to, as torchvision's `Matcher`.

    Parameters
    ----------
    anchors : Tensor, (A, 4), or (B, A, 4) where each image has its own
    targets : list of B dicts with ``boxes`` (m, 4)
    foreground, background : float
        IoU from which an anchor is a positive, and below which it is a negative.
    low_quality : bool
        Every box keeps the anchors that overlap it most, however little.

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
        if low_quality:
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


def match_cells(cells: Tensor, targets: list[dict[str, Tensor]], level_cells: list[int], radius: float) -> Tensor:
    """Return the box that each cell is matched to, as torchvision's FCOS.

    A cell belongs to the smallest box that it lies in, if it is near the box's centre and of a level for its size.

    Parameters
    ----------
    cells : Tensor, (A, 4)
        Squares around the cells' centres, as wide as the strides of their levels.
    targets
        As in `match_anchors`, and so is the result, without -2.
    level_cells : list of int
        How many of the cells each level has.
    radius : float
        How far from a box's centre a cell may be, in strides.
    """
    x, y = ((cells[:, :2] + cells[:, 2:]) / 2).unbind(dim=1)  # (A,)
    strides = cells[:, 2] - cells[:, 0]
    least, most = strides * 4, strides * 8  # from a cell to the farthest side of a box of its level
    least[: level_cells[0]] = 0
    most[-level_cells[-1] :] = torch.inf
    best, nearest = _none_yet(cells, targets)
    for first, boxes in _some_boxes(cells, targets):
        left, top, right, bottom = boxes.unsqueeze(3).unbind(dim=2)  # (B, M, 1); with cells (B, M, A)
        off_centre = torch.maximum((x - (left + right) / 2).abs(), (y - (top + bottom) / 2).abs())
        sides = x - left, y - top, right - x, bottom - y
        matched = off_centre < radius * strides
        matched &= reduce(torch.minimum, sides) > 0
        farthest = reduce(torch.maximum, sides)
        matched &= (farthest > least) & (farthest < most)
        best, nearest = _better(best, nearest, matched * (1e8 - (right - left) * (bottom - top)), first)
    return torch.where(best < 1e-5, Matcher.BELOW_LOW_THRESHOLD, nearest)


def _none_yet(anchors: Tensor, targets: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the values and indices of `_better` before any box was seen."""
    best = anchors.new_full((len(targets), anchors.shape[-2]), -1.0)
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
    at_once = max(1, MOST_PAIRS // (len(targets) * anchors.shape[-2]))
    for first in range(0, boxes.shape[1], at_once):
        yield first, boxes[:, first : first + at_once]


def _ious(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the IoU of boxes ``(B, M, 4)`` and anchors ``(A, 4)`` or ``(B, A, 4)`` -> ``(B, M, A)``."""
    if anchors.dim() == 3:
        return torch.stack([box_iou(*pair) for pair in zip(boxes, anchors, strict=True)])
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
        """Find them in the result of one of the matchings. It is the one time that the host waits for a GPU."""
        image, anchor = (matches >= 0).nonzero(as_tuple=True)
        counts = _counts(targets)
        starts = (counts.cumsum(0) - counts).to(matches.device, non_blocking=True)
        box = matches[image, anchor] + starts[image]
        return cls(image, anchor, *(torch.cat([target[key] for target in targets])[box] for key in ("labels", "boxes")))


def _counts(targets: list[dict[str, Tensor]]) -> Tensor:
    """Return how many boxes each image has, int64 ``(B,)`` on the CPU."""
    return torch.tensor([len(target["boxes"]) for target in targets])
