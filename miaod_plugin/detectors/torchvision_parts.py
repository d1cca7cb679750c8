"""What the adapters of torchvision's detectors share."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from ..distributed.group import images_beside, of_all_parts
from .base import Features, cells_inside


def transformed(
    model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]] | None
) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
    """Return images and targets as torchvision's model resizes, normalises and pads them, channels last in memory.

    Equal to ``model.transform(images, targets)`` up to rounding. That normalises whole photographs and then makes them
    smaller, and copies numbers to the device image by image; here it is the small images that are normalised. Where
    other processes see the rest of an annotated batch, its largest image says how far all are padded.
    """
    transform, given = model.transform, images
    mean, std = (_channels(getattr(transform, name), images[0]) for name in ("image_mean", "image_std"))
    before, after = images_beside()
    _draw_sizes(transform, before)
    images = [transform.resize(image)[0] for image in images]
    _draw_sizes(transform, after)
    if all(image.shape == images[0].shape for image in images):
        images = ((torch.stack(images) - mean) / std).unbind()
    else:
        images = [(image - mean) / std for image in images]
    sizes = [tuple(image.shape[-2:]) for image in images]
    batch = transform.batch_images(images, transform.size_divisible)
    if targets is not None:
        batch = _padded(batch, of_all_parts(tuple(batch.shape[-2:])))
        old = [tuple(image.shape[-2:]) for image in given]
        targets = [
            target | {"boxes": _resized(target["boxes"], *pair)}
            for target, *pair in zip(targets, old, sizes, strict=True)
        ]
    return ImageList(batch.contiguous(memory_format=torch.channels_last), sizes), targets


def _draw_sizes(transform: GeneralizedRCNNTransform, count: int) -> None:
    """Draw the random numbers that torchvision draws when it resizes so many images in training."""
    if transform.training and not isinstance(transform, AsIs):
        for _ in range(count):
            transform.torch_choice(transform.min_size)


def _padded(batch: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """Pad images ``(B, 3, H, W)`` to the largest height and width of some sizes, of which theirs is one."""
    lower, right = (max(sides) - side for sides, side in zip(zip(*sizes, strict=True), batch.shape[-2:], strict=True))
    return F.pad(batch, (0, right, 0, lower)) if lower or right else batch


def _channels(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a number for each channel, ``(3, 1, 1)``, of an image's type and on its device."""
    return torch.tensor(values, dtype=like.dtype)[:, None, None].to(like.device, non_blocking=True)


def _resized(boxes: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return boxes on an image of size `old` (H, W) as they are on the image resized to `new`."""
    if new == old:
        return boxes
    y, x = (float(np.float32(after) / np.float32(before)) for before, after in zip(old, new, strict=True))
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack((left * x, top * y, right * x, bottom * y), dim=1)


def grid_features(
    model: nn.Module,
    images: list[Tensor],
    targets: list[dict[str, Tensor]] | None,
    anchors_per_cell: list[int],
    anchors: "Anchors",
) -> Features:
    """Return the features of a detector whose instances are the anchors of its feature maps' cells.

    Parameters
    ----------
    model : Module
        Of torchvision, with ``transform`` and ``backbone``.
    images, targets : list
        As in `Detector.features`.
    anchors_per_cell : list of int
        For each level.
    anchors : Anchors
        Of the model's generator.
    """
    batch, resized_targets = transformed(model, images, targets)
    maps = list(model.backbone(batch.tensors).values())
    features = Features(
        maps,
        anchors(batch, maps),
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


class Anchors:
    """The anchors of a model's generator, ``(A, 4)``, the same for every image of a batch: made once for each shape.

    Parameters
    ----------
    generator : Module
        Of torchvision, ``(images, feature maps) -> anchors of each image``.
    """

    MOST = 16  # shapes that are kept: those of photographs are few, and 16 sets of anchors take some megabytes

    def __init__(self, generator: nn.Module):
        self.generator = generator
        self._made: dict[tuple, Tensor] = {}

    def __call__(self, batch: ImageList, maps: list[Tensor]) -> Tensor:
        like = maps[0]
        shapes = (like.device, like.dtype, *(tuple(x.shape[-2:]) for x in (batch.tensors, *maps)))
        if shapes not in self._made:
            if len(self._made) == self.MOST:
                del self._made[next(iter(self._made))]
            with torch.inference_mode(False):  # training may come to need what scoring made
                one = ImageList(batch.tensors[:1], batch.image_sizes[:1])
                self._made[shapes] = self.generator(one, [x[:1] for x in maps])[0]
        return self._made[shapes]


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


def background_first(logits: Tensor) -> Tensor:
    """Turn logits ``(..., C + 1)`` with background last, as in `miaod_plugin`, into torchvision's order."""
    return logits.roll(1, dims=-1)


def count_from_one(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return targets with torchvision's labels, where 0 is background."""
    return [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in targets]


def count_from_zero(detections: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return torchvision's detections with labels ``0..C-1``."""
    return [found | {"labels": found["labels"] - 1} for found in detections]


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
