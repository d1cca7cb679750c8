"""The MI-AOD maths: pure functions on tensors.

Notation of the paper (Yuan et al., *Multiple Instance Active Learning for Object Detection*, CVPR 2021, section 3): an
image is a bag, its anchors (or proposals) are the instances. `logits1` and `logits2` come from the two adversarial
classifiers f1 and f2, `mil_logits` from the multiple-instance head. A level is one feature map of the detector;
logits have shape ``(B, A_l, C)``: images, instances of level l, classes. A function that says "lists" takes one tensor
per level.

`valid` marks, as bool ``(B, A_l)``, the instances that lie on the image and not on the padding of its batch; ``None``
means all do.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def instance_uncertainty(logits1: Tensor, logits2: Tensor) -> Tensor:
    """Return how much the two classifiers disagree on each instance, ``mean_c (s1 - s2)^2``: -> ``(B, A)``.

    Section 3.2 of the paper; s = sigmoid(logits).
    """
    return (logits1.sigmoid() - logits2.sigmoid()).square().mean(dim=2)


def image_uncertainty(
    logits1: list[Tensor], logits2: list[Tensor], top_k: int | float = 10_000, valid: list[Tensor] | None = None
) -> Tensor:
    """Return the uncertainty of each image, the mean of its `top_k` largest instance uncertainties: lists -> ``(B,)``.

    Parameters
    ----------
    logits1, logits2 : list of Tensor, each (B, A_l, C)
    top_k : int or float
        A number of instances (all, where an image has fewer), or as a float in (0, 1] a share of the image's instances.
    valid : list of Tensor of bool, each (B, A_l), optional
    """
    uncertainty = torch.cat([instance_uncertainty(f1, f2) for f1, f2 in zip(logits1, logits2, strict=True)], dim=1)
    if valid is None:
        count = torch.full_like(uncertainty[:, 0], uncertainty.shape[1])
    else:
        mask = torch.cat(valid, dim=1)
        uncertainty = uncertainty * mask
        count = mask.sum(dim=1).to(uncertainty)
    k = (count * top_k).ceil() if isinstance(top_k, float) else count.clamp(max=top_k)
    k = k.clamp(min=1)
    largest = uncertainty.topk(int(k.max()), dim=1).values
    within = torch.arange(largest.shape[1], device=k.device) < k[:, None]
    return (largest * within).sum(dim=1) / k


def weighted_uncertainty(logits1: list[Tensor], logits2: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Return ``sum_i mean_c w (s1 - s2)^2`` over the instances of all levels: lists -> ``(B,)``.

    The uncertainty of section 3.2 of the paper with the weights of section 3.3. Where the attention is sharp (logits),
    objects share the weight of their image, so that this grows less with their number than the mean over the most
    uncertain instances does.
    """
    levels = zip(logits1, logits2, weights, strict=True)
    return sum(((f1.sigmoid() - f2.sigmoid()).square() * w).mean(dim=2).sum(dim=1) for f1, f2, w in levels)


def instance_weights(
    logits1: Tensor,
    logits2: Tensor,
    mil_logits: Tensor,
    *,
    attention: str = "probability",
    valid: Tensor | None = None,
) -> Tensor:
    """Return how much each instance represents each class of its image: one level, ``(B, A, C)`` each -> ``(B, A, C)``.

    ``softmax_c(m) * softmax_i(a)``, the second factor detached (section 3.3). For weights over the whole image, pass
    its levels concatenated.

    Parameters
    ----------
    mil_logits : Tensor, (B, A, C) or (B, A, C + 1)
        With one more class at the end, the background, that takes part in the softmax over the classes; without it a
        single class would always have probability 1.
    attention : {"probability", "logit"}
        What the softmax over the instances acts on: ``a = max_c sigmoid((f1 + f2) / 2)``, as the original does, or the
        logits themselves, ``max_c (f1 + f2) / 2``, since the softmax of values within 0..1 is nearly uniform.
    """
    objectness = ((logits1 + logits2) / 2).detach().amax(dim=2, keepdim=True)
    if attention == "probability":
        objectness = objectness.sigmoid()
    if valid is not None:
        objectness = objectness.masked_fill(~valid[:, :, None], torch.finfo(objectness.dtype).min)
    classes = mil_logits.softmax(dim=2)[..., : logits1.shape[2]]
    weights = classes * objectness.softmax(dim=1)
    return weights if valid is None else weights * valid[:, :, None]


def image_scores(weights: list[Tensor]) -> Tensor:
    """Return the image classification score, the largest over levels of ``sum_i w``: list -> ``(B, C)``.

    Clamped to [1e-5, 1 - 1e-5]; section 3.3 of the paper.
    """
    return torch.stack([level.sum(dim=1) for level in weights]).amax(dim=0).clamp(1e-5, 1 - 1e-5)


def discrepancy(logits1: list[Tensor], logits2: list[Tensor], weights: list[Tensor], weight: float = 0.5) -> Tensor:
    """Return the loss of the minimising round, ``weight * sum_l sum_i mean_c |s1 - s2| w``: lists -> scalar.

    Summed over the images of the batch too, w detached (sections 3.2 and 3.3 of the paper).
    """
    return weight * _weighted_sum(lambda s1, s2: (s1 - s2).abs(), logits1, logits2, weights)


def agreement(logits1: list[Tensor], logits2: list[Tensor], weights: list[Tensor], weight: float = 0.5) -> Tensor:
    """Return the loss of the maximising round, ``weight * sum_l sum_i mean_c (1 - |s1 - s2|) w``: lists -> scalar.

    Summed over the images of the batch too, w detached (sections 3.2 and 3.3 of the paper).
    """
    return weight * _weighted_sum(lambda s1, s2: 1 - (s1 - s2).abs(), logits1, logits2, weights)


def _weighted_sum(term, logits1: list[Tensor], logits2: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Sum ``mean_c term(s1, s2) * w`` over levels, images and instances; the weights are constants of this loss."""
    levels = zip(logits1, logits2, weights, strict=True)
    return sum((term(f1.sigmoid(), f2.sigmoid()) * w.detach()).mean(dim=2).sum() for f1, f2, w in levels)


def pseudo_labels(
    logits1: list[Tensor], logits2: list[Tensor], threshold: float = 0.5, valid: list[Tensor] | None = None
) -> Tensor:
    """Return the classes found in each unlabelled image: lists -> ``(B, C)`` in {0, 1}.

    Class c is present if the largest ``(s1 + s2) / 2`` over levels and instances reaches `threshold` (section 3.3).
    """
    mean = torch.cat([(f1.sigmoid() + f2.sigmoid()) / 2 for f1, f2 in zip(logits1, logits2, strict=True)], dim=1)
    if valid is not None:
        mean = mean * torch.cat(valid, dim=1)[:, :, None]
    return (mean.detach().amax(dim=1) >= threshold).to(mean.dtype)


def image_classification_loss(scores: Tensor, multi_hot: Tensor) -> Tensor:
    """Return the binary cross entropy of image scores against the classes present, mean over ``(B, C)`` -> scalar.

    Section 3.3 of the paper. Scores that are not finite give ``nan``, like every other loss.
    """
    broken = scores.isnan()  # torch's function would raise, and on a GPU end the process's use of it
    loss = F.binary_cross_entropy(scores.masked_fill(broken, 0.5), multi_hot)
    return loss.masked_fill(broken.any(), torch.nan)


def pseudo_label_loss(scores: Tensor, labels: Tensor, per_image: bool = True) -> Tensor:
    """Return `image_classification_loss` against pseudo labels, leaving out images that have none -> scalar.

    Parameters
    ----------
    scores, labels : Tensor, (B, C)
    per_image : bool
        An image without a pseudo label counts as 0 in the mean over the batch; ``False`` drops the whole batch if any
        image has none, as the original does.
    """
    found = labels.any(dim=1)
    keep = found if per_image else found.all().expand_as(found)
    rows = keep.nonzero()[:, 0]  # a GPU is waited for here, once
    if not len(rows):
        return scores.sum() * 0.0
    return image_classification_loss(scores[rows], labels[rows]) * keep.float().mean()
