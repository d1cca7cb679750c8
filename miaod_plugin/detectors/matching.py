"""Anchor matching and losses over a whole batch at once.

The same numbers as torchvision's `Matcher` and RetinaNet losses, which loop over the images in Python; for small
networks that loop costs as much as the network.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder, Matcher
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
    boxes = torch.stack([F.pad(target["boxes"], (0, 0, 0, most - len(target["boxes"]))) for target in targets])
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


def focal_loss(
    logits: Tensor, matches: Tensor, targets: list[dict[str, Tensor]], positives_of: str = "image"
) -> Tensor:
    """Return the focal loss, summed over anchors and classes and divided by the number of positives -> scalar.

    Parameters
    ----------
    logits : Tensor, (B, A, C)
    matches : Tensor, (B, A)
        The result of `match_anchors`; anchors between the thresholds are left out.
    targets : list of B dicts with ``labels`` (m,)
    positives_of : {"image", "batch"}
        Divide each image's sum by its own positives and take the mean, as torchvision, or divide the batch's by all.
    """
    positive = matches >= 0
    wanted = torch.zeros_like(logits)
    image, anchor = positive.nonzero(as_tuple=True)
    wanted[image, anchor, _matched("labels", matches, targets)] = 1
    loss = sigmoid_focal_loss(logits, wanted, reduction="none").sum(dim=2)
    loss = loss * (matches != Matcher.BETWEEN_THRESHOLDS)
    if positives_of == "batch":
        return loss.sum() / positive.sum().clamp(min=1)
    return (loss.sum(dim=1) / positive.sum(dim=1).clamp(min=1)).mean()


def box_loss(
    regression: Tensor,
    anchors: Tensor,
    matches: Tensor,
    targets: list[dict[str, Tensor]],
    coder: BoxCoder,
    positives_of: str = "image",
) -> Tensor:
    """Return the L1 loss of the encoded boxes of positives, divided by their number as in `focal_loss` -> scalar.

    `regression` is ``(B, A, 4)``, `anchors` ``(A, 4)``.
    """
    positive = matches >= 0
    image, anchor = positive.nonzero(as_tuple=True)
    wanted = coder.encode_single(_matched("boxes", matches, targets), anchors[anchor])
    loss = (regression[image, anchor] - wanted).abs().sum(dim=1)
    if positives_of == "batch":
        return loss.sum() / positive.sum().clamp(min=1)
    return (loss / positive.sum(dim=1)[image]).sum() / len(targets)


def _matched(key: str, matches: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
    """Return the `key` of the box behind each positive anchor, images in order."""
    starts = torch.tensor([0] + [len(target["boxes"]) for target in targets[:-1]], device=matches.device).cumsum(0)
    positive = matches >= 0
    return torch.cat([target[key] for target in targets])[(matches + starts[:, None])[positive]]
