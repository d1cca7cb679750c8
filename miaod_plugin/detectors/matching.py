"""Anchor matching and losses over a whole batch at once.

The same numbers as torchvision's `Matcher` and RetinaNet losses, which loop over the images in Python; for small
networks that loop costs as much as the network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection._utils import BoxCoder, Matcher, encode_boxes
from torchvision.ops import box_iou, sigmoid_focal_loss

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


def focal_loss(logits: Tensor, matches: Tensor, positives: Positives, positives_of: str = "image") -> Tensor:
    """Return the focal loss, summed over anchors and classes and divided by the number of positives -> scalar.

    Parameters
    ----------
    logits : Tensor, (B, A, C)
    matches : Tensor, (B, A)
        The result of `match_anchors`; anchors between the thresholds are left out.
    positives : Positives
        Of these matches.
    positives_of : {"image", "batch"}
        Divide each image's sum by its own positives and take the mean, as torchvision, or divide the batch's by all.
    """
    wanted = torch.zeros_like(logits)
    wanted[positives.image, positives.anchor, positives.labels] = 1
    loss = sigmoid_focal_loss(logits, wanted, reduction="none").sum(dim=2)
    loss = loss * (matches != Matcher.BETWEEN_THRESHOLDS)
    if positives_of == "batch":
        return loss.sum() / max(len(positives.image), 1)
    return (loss.sum(dim=1) / (matches >= 0).sum(dim=1).clamp(min=1)).mean()


def box_loss(
    regression: Tensor,
    anchors: Tensor,
    matches: Tensor,
    positives: Positives,
    coder: BoxCoder,
    positives_of: str = "image",
) -> Tensor:
    """Return the L1 loss of the encoded boxes of positives, divided by their number as in `focal_loss` -> scalar.

    `regression` is ``(B, A, 4)``, `anchors` ``(A, 4)``.
    """
    image, anchor = positives.image, positives.anchor
    weights = torch.tensor(coder.weights, dtype=anchors.dtype).to(anchors.device, non_blocking=True)
    wanted = encode_boxes(positives.boxes, anchors[anchor], weights)
    loss = (regression[image, anchor] - wanted).abs().sum(dim=1)
    if positives_of == "batch":
        return loss.sum() / max(len(image), 1)
    return (loss / (matches >= 0).sum(dim=1)[image]).sum() / len(matches)


def _counts(targets: list[dict[str, Tensor]]) -> Tensor:
    """Return how many boxes each image has, int64 ``(B,)`` on the CPU."""
    return torch.tensor([len(target["boxes"]) for target in targets])
