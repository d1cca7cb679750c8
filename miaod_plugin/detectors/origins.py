"""Which instance a detection came from, which torchvision's post-processing does not tell."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

ROUNDING = 1e-6  # of a score, relative; post-processing picks scores and does not change them


def instances_of(
    found: dict[str, Tensor], scores: Tensor, decode: Callable[[Tensor, Tensor], Tensor], size: tuple[int, int]
) -> Tensor:
    """Return the instance of each detection of an image: it has that score for the class, and of several that box.

    Detections that are equal in all three, such as boxes beyond the edge that are clipped to nothing, get the first.

    Parameters
    ----------
    found : dict
        ``boxes`` (m, 4) in pixels of the resized image, ``labels`` (m,), ``scores`` (m,).
    scores : Tensor, (A, C)
        Of each instance and class, as post-processing computes them.
    decode : callable
        Instances ``(k,)`` and labels ``(k,)`` -> boxes ``(k, 4)``.
    size : (int, int)
        Height and width of the resized image, to which boxes are clipped.

    Returns
    -------
    Tensor of int64, (m,)
    """
    wanted = found["scores"][:, None]
    near = scores.T[found["labels"]].sub_(wanted).abs_() <= ROUNDING * wanted  # (m, A)
    detection, instance = near.nonzero(as_tuple=True)
    boxes = clip_boxes_to_image(decode(instance, found["labels"][detection]), size)
    apart = (boxes - found["boxes"][detection]).abs().sum(dim=1)
    nearest = apart.argsort(stable=True)
    nearest = nearest[detection[nearest].argsort(stable=True)]  # by detection, then by distance
    first = torch.searchsorted(detection, torch.arange(len(wanted), device=detection.device))
    return instance[nearest[first]]
