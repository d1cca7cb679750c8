"""Ways to see an image that an object looks the same in, and where its box then lies: `views` of a pass over a pool.

Each is called with a uint8 image ``(3, H, W)`` and returns another one; ``boxes`` moves boxes ``(m, 4)`` of an image of
a size ``(H, W)`` along. Nothing is drawn: the same image is always seen in the same way.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F


class AsItIs:
    """The image as it is."""

    def __call__(self, image: Tensor) -> Tensor:
        return image

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        return boxes


class Mirrored:
    """Left and right exchanged."""

    def __call__(self, image: Tensor) -> Tensor:
        return image.flip(2)

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        return torch.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], dim=1)


@dataclass(frozen=True)
class CutOut:
    """Two squares grey, a third of the way in from two opposite corners; `side` is a share of the shorter side."""

    side: float = 0.2

    def __call__(self, image: Tensor) -> Tensor:
        image, (height, width) = image.clone(), image.shape[1:]
        half = max(1, round(self.side * min(height, width) / 2))
        for third in (1, 2):
            y, x = height * third // 3, width * third // 3
            image[:, max(0, y - half) : y + half, max(0, x - half) : x + half] = 128
        return image

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        return boxes


@dataclass(frozen=True)
class Scaled:
    """Both sides times a factor."""

    factor: float = 0.8

    def __call__(self, image: Tensor) -> Tensor:
        return F.resize(image, list(self._sides(tuple(image.shape[1:]))), antialias=True)

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        factors = [new / old for new, old in zip(self._sides(size), size, strict=True)]
        return boxes * boxes.new_tensor([factors[1], factors[0]] * 2)

    def _sides(self, size: tuple[int, int]) -> tuple[int, int]:
        return tuple(max(1, round(self.factor * side)) for side in size)


@dataclass(frozen=True)
class Rotated:
    """Turned counter-clockwise about the centre; corners go out of view, and boxes grow to hold what they held."""

    degrees: float = 5.0

    def __call__(self, image: Tensor) -> Tensor:
        return F.rotate(image, self.degrees, interpolation=InterpolationMode.BILINEAR)

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        sine, cosine = math.sin(math.radians(self.degrees)), math.cos(math.radians(self.degrees))
        centre = boxes.new_tensor([size[1] / 2, size[0] / 2])
        corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].unflatten(1, (4, 2)) - centre
        turned = corners @ boxes.new_tensor([[cosine, -sine], [sine, cosine]]) + centre  # y points down
        sides = boxes.new_tensor([size[1], size[0]])
        least, most = (torch.minimum(ends.clamp(min=0), sides) for ends in (turned.amin(dim=1), turned.amax(dim=1)))
        return torch.cat([least, most], dim=1)
