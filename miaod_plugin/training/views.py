"""Strong augmentation: an image as a student sees it, other colours and parts missing, every object where it was."""

import math

import torch
from torch import Tensor

from ..distributed.group import images_beside

CHANGE = 0.4  # of brightness, contrast and saturation, at most
HUE = 0.2 * math.pi  # turned at most
MOST_ERASED = 3  # rectangles
ERASED = (1 / 16, 1 / 4)  # sides of a rectangle as shares of the image's
NOTHING = torch.zeros(3, 1, 1)  # takes as many random numbers as any image

# From red, green and blue to luminance and the plane of colours, in which hue is an angle and saturation a distance.
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


def strong_view(image: Tensor) -> Tensor:
    """Return an image ``(3, H, W)`` in 0..1 in other colours (of five, four) and with up to three rectangles erased.

    The strength is that of Unbiased Teacher (Liu et al., ICLR 2021, appendix A.3), without its blur. Random numbers are
    drawn from torch's on the CPU.
    """
    if torch.rand(()) < 0.8:
        image = _recoloured(image)
    return _erased(image)


def strong_views(images: list[Tensor]) -> list[Tensor]:
    """Return the `strong_view` of each image of a batch.

    Random numbers are drawn for the whole batch in order, so that an image's view is the same in whichever of several
    processes sees it.
    """
    before, after = images_beside()
    for _ in range(before):
        strong_view(NOTHING)
    views = [strong_view(image) for image in images]
    for _ in range(after):
        strong_view(NOTHING)
    return views


def _recoloured(image: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue: as one affine map of the colours, which costs one product."""
    brightness, contrast, saturation = (1 + CHANGE * _between(-1, 1) for _ in range(3))
    angle = HUE * _between(-1, 1)
    turned = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    change = torch.block_diag(torch.ones(1, 1), saturation * turned)
    colours = (brightness * contrast * (_FROM_YIQ @ change @ _TO_YIQ)).to(image.device, non_blocking=True)
    grey = brightness * (1 - contrast) * image.mean()
    return ((colours @ image.flatten(1)).view_as(image) + grey).clamp_(0, 1)


def _erased(image: Tensor) -> Tensor:
    """Replace up to three rectangles by a colour each."""
    image, (height, width) = image.clone(), image.shape[-2:]
    for _ in range(int(torch.randint(MOST_ERASED + 1, ()))):
        h, w = (max(1, round(side * _between(*ERASED))) for side in (height, width))
        top, left = (int(torch.randint(free + 1, ())) for free in (height - h, width - w))
        image[:, top : top + h, left : left + w] = torch.rand(3, 1, 1).to(image.device, non_blocking=True)
    return image


def _between(least: float, most: float) -> float:
    return least + (most - least) * float(torch.rand(()))
