"""From scores to detections as torchvision's post-processing makes them, for all images of a batch at once.

torchvision goes image by image and level by level, or class by class, and lets the host wait for the GPU at each. Here
it waits a few times a batch, and which instance a detection came from is known.
"""

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from .base import Features

MOST_AT_ONCE = 25_000  # boxes: non-maximum suppression on a GPU takes the square of it in bits, 80 MB


class Candidates(NamedTuple):
    """Instances that may be detections of a class, those of the first image first; each ``(M,)``."""

    images: Tensor
    instances: Tensor
    labels: Tensor
    scores: Tensor

    def at(self, rows: Tensor) -> "Candidates":
        return Candidates(*(values[rows] for values in self))


def all_above(scores: Tensor, threshold: float) -> Candidates:
    """Return the scores ``(B, A, C)`` above the threshold, by image and instance."""
    images, positions = (scores.flatten(1) > threshold).nonzero(as_tuple=True)
    n_classes = scores.shape[2]
    return Candidates(images, positions // n_classes, positions % n_classes, scores.flatten(1)[images, positions])


def best_of_levels(scores: Tensor, sizes: list[int], threshold: float, at_most: int) -> Candidates:
    """Return the `at_most` best scores ``(B, A, C)`` above the threshold of each image and level of so many instances.

    Of equal scores at the margin it is left open, as in `torch.topk`, which are taken.
    """
    found = all_above(scores, threshold)
    levels = sum((found.instances >= end).long() for end in accumulate(sizes[:-1]))
    return _best(found, found.images * len(sizes) + levels, len(scores) * len(sizes), at_most)


def best_of_classes(scores: Tensor, threshold: float, at_most: int) -> Candidates:
    """Return the `at_most` best scores ``(B, A, C)`` above the threshold of each image and class, as above."""
    images, labels, instances, values = all_above(scores.transpose(1, 2), threshold)
    found, n_classes = Candidates(images, instances, labels, values), scores.shape[2]
    return _best(found, images * n_classes + labels, len(scores) * n_classes, at_most)


def _best(found: Candidates, groups: Tensor, n_groups: int, at_most: int) -> Candidates:
    """Return the candidates with the `at_most` best scores of each group, in which they lie one after the other."""
    counts = torch.zeros(n_groups, dtype=torch.int64, device=groups.device).index_add_(
        0, groups, torch.ones_like(groups)
    )
    most = int(counts.max())
    if most <= at_most:
        return found
    first = counts.cumsum(0) - counts
    table = found.scores.new_full((n_groups, most), -torch.inf)
    table[groups, torch.arange(len(groups), device=groups.device) - first[groups]] = found.scores
    columns = table.topk(at_most, dim=1).indices
    return found.at((first[:, None] + columns)[columns < counts[:, None]])


def clipped(boxes: Tensor, images: Tensor, image_sizes: list[tuple[int, int]]) -> Tensor:
    """Return boxes ``(M, 4)`` of the images ``(M,)`` clipped to the resized images."""
    return torch.minimum(boxes.clamp(min=0), _sides(image_sizes, boxes)[images])


def finished(
    found: Candidates, boxes: Tensor, features: Features, nms_thresh: float, at_most: int
) -> list[dict[str, Tensor]]:
    """Return what is left of candidates after non-maximum suppression per class, as `Detector.detections` does.

    Parameters
    ----------
    found : Candidates
    boxes : Tensor, (M, 4)
        Of the candidates, in pixels of the resized images, clipped.
    features : Features
    nms_thresh : float
        Of two boxes of a class with a higher IoU the one with the lower score goes.
    at_most : int
        Detections of an image.
    """
    n_images = len(features.image_sizes)
    kept = survivors(found, boxes, _counts(found.images, n_images), nms_thresh)
    kept = [of_image[:at_most] for of_image in kept.split(_counts(found.images[kept], n_images))]
    counts, kept = [len(of_image) for of_image in kept], torch.cat(kept)
    return _by_image(found.at(kept), boxes[kept], features, counts)


def unsuppressed(found: Candidates, boxes: Tensor, features: Features) -> list[dict[str, Tensor]]:
    """Return all candidates and their boxes as `finished` does those that are left of them, in no order."""
    return _by_image(found, boxes, features, _counts(found.images, len(features.image_sizes)))


def _by_image(found: Candidates, boxes: Tensor, features: Features, counts: list[int]) -> list[dict[str, Tensor]]:
    """Return so many candidates for each image as they lie one after the other, in pixels of the image as given."""
    scale = _sides(features.original_sizes, boxes, torch.float32) / _sides(features.image_sizes, boxes, torch.float32)
    columns = {
        "boxes": boxes * scale[found.images],
        "labels": found.labels,
        "scores": found.scores,
        "instances": found.instances,
    }
    images = zip(*(values.split(counts) for values in columns.values()), strict=True)
    return [dict(zip(columns, image, strict=True)) for image in images]


def survivors(found: Candidates, boxes: Tensor, counts: list[int], threshold: float) -> Tensor:
    """Return the rows of candidates that survive non-maximum suppression per class: image after image, best first.

    `boxes` are theirs, ``(M, 4)``, and `counts` says how many candidates each image has.
    """
    at_once = max(1, MOST_AT_ONCE // max(1, *counts)) if boxes.is_cuda else 1
    kept, first = [], 0
    for start in range(0, len(counts), at_once):
        of_these = sum(counts[start : start + at_once])
        rows = slice(first, first + of_these)
        args = boxes[rows], found.scores[rows], found.labels[rows]
        if boxes.is_cuda:
            of_these_kept = _suppress_all(*args, found.images[rows] - start, threshold)
        else:
            of_these_kept = batched_nms(*args, threshold)
        kept.append(first + of_these_kept)
        first += of_these
    return torch.cat(kept)


def _suppress_all(boxes: Tensor, scores: Tensor, labels: Tensor, images: Tensor, threshold: float) -> Tensor:
    """Suppress the boxes of several images, of which each class lies apart in the plane: one kernel, one wait.

    In float64, in which that moves no box by a rounding error that matters, as it does in float32.
    """
    if not len(boxes):
        return images
    side = boxes.max().double() + 1
    apart = (labels + images * (labels.max() + 1)) * side
    kept = nms(boxes.double() + apart[:, None], scores.double(), threshold)
    return kept[images[kept].sort(stable=True).indices]


def _counts(images: Tensor, n_images: int) -> list[int]:
    """Return how often each image occurs."""
    return (images == torch.arange(n_images, device=images.device)[:, None]).sum(dim=1).tolist()


def _sides(sizes: list[tuple[int, int]], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return how far boxes reach in images of these (height, width), ``(B, 4)``, where `like` lies; nobody waits."""
    sides = torch.tensor([(width, height, width, height) for height, width in sizes], dtype=dtype or like.dtype)
    return sides.to(like.device, non_blocking=True)
