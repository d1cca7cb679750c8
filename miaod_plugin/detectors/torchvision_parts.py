"""What the adapters of torchvision's detectors share."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from .base import Features, cells_inside


def transformed(
    model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]] | None
) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
    """Return images and targets as torchvision's model resizes, normalises and pads them, channels last in memory."""
    batch, targets = model.transform(images, targets)
    batch.tensors = batch.tensors.contiguous(memory_format=torch.channels_last)
    return batch, targets


def grid_features(
    model: nn.Module,
    images: list[Tensor],
    targets: list[dict[str, Tensor]] | None,
    anchors_per_cell: list[int],
    make_anchors: Callable[[ImageList, list[Tensor]], Tensor] | None = None,
) -> Features:
    """Return the features of a detector whose instances are the anchors of its feature maps' cells.

    Parameters
    ----------
    model : Module
        Of torchvision, with ``transform``, ``backbone`` and ``anchor_generator``.
    images, targets : list
        As in `Detector.features`.
    anchors_per_cell : list of int
        For each level.
    make_anchors : callable, default=None
        ``(images, feature maps) -> anchors (A, 4)`` in place of the model's generator.
    """
    batch, resized_targets = transformed(model, images, targets)
    maps = list(model.backbone(batch.tensors).values())
    features = Features(
        maps,
        # the same for every image of a batch
        make_anchors(batch, maps) if make_anchors else model.anchor_generator(batch, maps)[0],
        batch.image_sizes,
        [tuple(image.shape[-2:]) for image in images],
        tuple(batch.tensors.shape[-2:]),
        resized_targets,
        anchors_per_cell=anchors_per_cell,
    )
    if features.padded:
        inside = [cells_inside(level.shape[-2:], features).flatten(1) for level in maps]
        features.valid = [
            cells.repeat_interleave(count, dim=1) for cells, count in zip(inside, anchors_per_cell, strict=True)
        ]
    return features


class LevelClassifier(nn.Module):
    """torchvision's classification head with its levels kept apart: feature maps -> logits, each ``(B, A_l, C)``.

    Parameters
    ----------
    head : Module
        Feature maps -> logits of all levels, ``(B, A, C)``.
    anchors_per_cell : list of int
        For each level.
    """

    def __init__(self, head: nn.Module, anchors_per_cell: list[int]):
        super().__init__()
        self.head = head
        self.anchors_per_cell = anchors_per_cell

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        cells = [level.shape[-2] * level.shape[-1] for level in maps]
        sizes = [count * anchors for count, anchors in zip(cells, self.anchors_per_cell, strict=True)]
        return list(self.head(maps).split(sizes, dim=1))


def mean_classification(losses: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the loss parts of the first classifier, ``classification`` averaged over all; the others are the same."""
    return losses[0] | {"classification": torch.stack([loss["classification"] for loss in losses]).mean()}


def background_first(logits: Tensor) -> Tensor:
    """Turn logits ``(..., C + 1)`` with background last, as in `miaod_plugin`, into torchvision's order."""
    return logits.roll(1, dims=-1)


def count_from_one(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return targets with torchvision's labels, where 0 is background."""
    return [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in targets]


def count_from_zero(detections: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return torchvision's detections with labels ``0..C-1``."""
    return [found | {"labels": found["labels"] - 1} for found in detections]


def anchors_of_images(features: Features) -> list[Tensor]:
    """Return the anchors once for each image, as torchvision's losses and post-processing take them."""
    return [features.anchors] * len(features.image_sizes)


class AsIs(GeneralizedRCNNTransform):
    """torchvision's transform without its resizing."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None):
        return image, target


def padded_size(transform: GeneralizedRCNNTransform, height: int, width: int) -> tuple[int, int]:
    """Return the size of the tensor that torchvision's transform makes of an image of this size alone."""
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
    elif not isinstance(transform, AsIs):
        scale = min(transform.min_size[-1] / min(height, width), transform.max_size / max(height, width))
        height, width = math.floor(height * scale), math.floor(width * scale)
    multiple = transform.size_divisible
    return math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple
