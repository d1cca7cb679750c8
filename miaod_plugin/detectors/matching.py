"""Anchor matching over a whole batch at once.

The same numbers as torchvision's, which loops over the images in Python; for small networks that loop costs as much as
the network.
"""

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
    most = max(len(target["boxes"]) for target in targets)
    if most == 0:
        return torch.full((len(targets), len(anchors)), Matcher.BELOW_LOW_THRESHOLD, device=anchors.device)
    # those that fill up an image are points at 0, 0, which overlap nothing
    boxes = pad_sequence([target["boxes"] for target in targets], batch_first=True)
    best = boxes.new_full((len(targets), len(anchors)), -1.0)
    nearest = torch.zeros_like(best, dtype=torch.int64)
    kept = torch.zeros_like(best, dtype=torch.bool)
    at_once = max(1, MOST_PAIRS // best.numel())
    for first in range(0, most, at_once):
        some = slice(first, first + at_once)
        iou = box_iou(boxes[:, some].flatten(0, 1), anchors).view(len(targets), -1, len(anchors))  # (B, M, A)
        highest, box = iou.max(dim=1)
        nearest = torch.where(highest > best, first + box, nearest)
        best = torch.maximum(best, highest)
        # every box keeps the anchors that overlap it most, however little
        closest = iou.amax(dim=2, keepdim=True)
        kept |= ((iou == closest) & (closest > 0)).any(dim=1)
    matches = torch.where(best < background, Matcher.BELOW_LOW_THRESHOLD, nearest)
    matches = torch.where((best >= background) & (best < foreground), Matcher.BETWEEN_THRESHOLDS, matches)
    return torch.where(kept, nearest, matches)


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
