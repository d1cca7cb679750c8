"""Losses of single-stage detectors over a whole batch at once.

The same numbers as torchvision's, which loop over the images in Python and make the host wait for a GPU several times
for each. These wait for none but the `Positives` that they are given.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import Matcher
from torchvision.ops import sigmoid_focal_loss

from ..distributed.group import normaliser
from .matching import Positives


def focal_loss(logits: Tensor, matches: Tensor, positives: Positives, positives_of: str = "image") -> Tensor:
    """Return the focal loss, summed over anchors and classes and divided by the number of positives -> scalar.

    Parameters
    ----------
    logits : Tensor, (B, A, C)
    matches : Tensor, (B, A)
        The result of one of the matchings; anchors between two thresholds are left out.
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
        return loss.sum() / normaliser(torch.tensor(len(positives.image)))
    return (loss.sum(dim=1) / (matches >= 0).sum(dim=1).clamp(min=1)).mean()


def log_odds(logits: Tensor) -> Tensor:
    """Return the logits whose sigmoid is the softmax of `logits` over the classes: ``(B, A, C)`` -> same shape.

    With them what is written for sigmoids serves a detector whose classes compete in a softmax.
    """
    log_p = logits.log_softmax(dim=2).clamp(max=-1e-6)  # finite odds, even of a class that is certain
    return log_p - torch.log(-torch.expm1(log_p))


def quality_focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return ``|wanted - s|^2 BCE(s, wanted)``, s = sigmoid(logits), the focal loss for probabilities -> same shape.

    Li et al., *Generalized Focal Loss*, NeurIPS 2020, equation 2.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (wanted - logits.sigmoid()).square() * cross_entropy


def per_positive(loss: Tensor, matches: Tensor, positives: Positives, positives_of: str = "image") -> Tensor:
    """Return losses of positives, ``(P,)``, divided by their number as in `focal_loss` -> scalar."""
    if positives_of == "batch":
        return loss.sum() / normaliser(torch.tensor(len(loss)))
    return (loss / (matches >= 0).sum(dim=1)[positives.image]).sum() / len(matches)


def mined_cross_entropy(logits: Tensor, matches: Tensor, positives: Positives, negatives_per_positive: float) -> Tensor:
    """Return SSD's loss of classes: of positives and of each image's hardest negatives, divided by the positives.

    Parameters
    ----------
    logits : Tensor, (B, A, C + 1)
        Background last.
    matches, positives
        As in `focal_loss`.
    negatives_per_positive : float
        How many of an image's negatives, those of the highest loss, count for each of its positives. Where an image has
        too few, positives count again in their place, as in torchvision.
    """
    wanted = torch.full_like(matches, logits.shape[2] - 1)
    wanted[positives.image, positives.anchor] = positives.labels
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(matches)
    positive = matches >= 0
    hardest = loss.detach().masked_fill(positive, -torch.inf).argsort(dim=1, descending=True)
    rank = torch.arange(loss.shape[1], device=loss.device)
    mined = rank < negatives_per_positive * positive.sum(dim=1, keepdim=True)  # (B, A), of the hardest first
    total = torch.where(positive, loss, 0).sum() + torch.where(mined, loss.gather(1, hardest), 0).sum()
    return total / normaliser(torch.tensor(len(positives.image)))


def giou_losses(boxes: Tensor, wanted: Tensor, eps: float = 1e-7) -> Tensor:
    """Return the loss of generalised IoU of each pair of boxes, both ``(P, 4)`` -> ``(P,)``."""
    sides = torch.minimum(boxes[:, 2:], wanted[:, 2:]) - torch.maximum(boxes[:, :2], wanted[:, :2])
    overlap = torch.where((sides > 0).all(dim=1), _areas(sides), 0)
    union = _areas(boxes[:, 2:] - boxes[:, :2]) + _areas(wanted[:, 2:] - wanted[:, :2]) - overlap
    hull = _areas(torch.maximum(boxes[:, 2:], wanted[:, 2:]) - torch.minimum(boxes[:, :2], wanted[:, :2]))
    return 1 - (overlap / (union + eps) - (hull - union) / (hull + eps))


def _areas(sides: Tensor) -> Tensor:
    """Return the areas of what has these sides, ``(P, 2)`` -> ``(P,)``; the gradient of ``prod`` waits for a GPU."""
    return sides[:, 0] * sides[:, 1]
