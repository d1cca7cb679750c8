"""Pictures of a page: JPEGs as data URIs with boxes drawn over them, and heatmaps."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from ..drawing import Place, colour_bar, free_place, overlay

LONGEST = 256  # of a picture's longer side: pixels at most, and always units of its drawing
LETTER, LONGEST_NAME = 16, 14  # of the names of classes: units of height, and letters that are shown


@dataclass(frozen=True)
class Box:
    """A box in units of its drawing, with its score if a model found it, and a colour if it is not the page's own.

    Its label goes to `place` (left, baseline) if there is room.
    """

    x: float
    y: float
    width: float
    height: float
    label: str
    score: float | None
    place: tuple[float, float] | None
    colour: str = ""


@dataclass(frozen=True)
class Picture:
    """A JPEG as a data URI, the size of its drawing, whose longer side is 256 units, and the boxes drawn over it.

    Boxes that are `guessed` are dashed.
    """

    id: str
    uri: str
    width: float
    height: float
    boxes: list[Box]
    caption: str = ""
    guessed: bool = False


def photograph(
    name: str,
    image: Tensor,
    corners: np.ndarray,
    labels: Sequence[str],
    scores: Sequence[float | None],
    caption: str = "",
    guessed: bool = False,
) -> Picture:
    """Return an image (uint8, ``(3, H, W)``) with boxes, ``(m, 4)`` in its pixels, the most important ones first."""
    height, width = image.shape[1:]
    unit = LONGEST / max(width, height)
    boxes = place_boxes(corners * unit, labels, scores, (width * unit, height * unit))
    return Picture(name, _jpeg(_shrunk(image, LONGEST)), width * unit, height * unit, boxes, caption, guessed)


def thumbnail(name: str, image: Tensor, longest: int) -> Picture:
    """Return an image whose longer side is at most `longest` pixels, which are its units."""
    return _whole(name, _shrunk(image, longest))


def _shrunk(image: Tensor, longest: int) -> Image.Image:
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    unit = longest / max(pixels.size)
    if unit >= 1:
        return pixels
    return pixels.resize([max(1, round(side * unit)) for side in pixels.size], Image.Resampling.LANCZOS)


def place_boxes(
    corners: np.ndarray, names: Sequence[str], scores: Sequence[float | None], canvas: tuple[float, float]
) -> list[Box]:
    """Give each box, best first, a place for its label that no other label has."""
    boxes, taken = [], []
    for box, name, score in zip(corners.tolist(), names, scores, strict=True):
        label = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
        place = free_place(box, _label_size(label), (int(canvas[0]), int(canvas[1])), taken)
        if place is not None:
            taken.append(place)
        x1, y1, x2, y2 = box
        boxes.append(Box(x1, y1, x2 - x1, y2 - y1, label, score, _baseline(place)))
    return boxes


def _label_size(label: str) -> tuple[int, int]:
    return round(0.68 * LETTER * len(label)) + 6, LETTER + 2  # bold letters in any of the page's fonts


def _baseline(place: Place | None) -> tuple[float, float] | None:
    return None if place is None else (place[0] + 3, place[1] + 0.87 * LETTER)


def heat_picture(name: str, image: Tensor, heat: np.ndarray, top: float) -> Picture:
    """Return a map ``(H, W)`` in colour, from 0 to `top`, over a pale grey copy of the image."""
    blend = overlay(image, heat, top)
    scale = LONGEST / max(blend.size)
    size = (max(1, round(blend.width * scale)), max(1, round(blend.height * scale)))
    return _whole(name, blend.resize(size, Image.Resampling.BICUBIC))


def heat_scale(top: float) -> Picture:
    """Return the colours of `heat_picture` and the numbers they stand for."""
    return _whole(f"0 to {top:.3g}", colour_bar(top, LONGEST))


def _whole(name: str, image: Image.Image) -> Picture:
    return Picture(name, _jpeg(image), *image.size, [])


def _jpeg(image: Image.Image) -> str:
    data, how = io.BytesIO(), {"quality": 88 if max(image.size) > 128 else 92, "subsampling": 0}
    try:
        image.save(data, "JPEG", optimize=True, **how)
    except OSError:  # noise: to optimise, Pillow has room for one byte of each pixel
        data = io.BytesIO()
        image.save(data, "JPEG", **how)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
