"""How a camera was turned: EXIF's orientation, and what it does to pixels, sizes and boxes.

Images are upright wherever this package shows, trains on or measures them; `read_image` sees to it. Files of
annotations may count on the pixels as they are stored; the loaders turn such boxes, so that in memory every box lies
on the upright image.
"""

from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from ..errors import ConfigError, did_you_mean, shown

STORED, UPRIGHT = "stored", "upright"

# What turns the stored frame upright, by the value of the EXIF tag: it is mirrored, and last x and y are exchanged.
_MIRRORED_X, _MIRRORED_Y, _SWAPPED = (2, 3, 7, 8), (3, 4, 6, 7), (5, 6, 7, 8)


class Frames(NamedTuple):
    """What the boxes of images lie on.

    - ``sizes`` int64 ``(n, 2)``: the height and width of each image that its annotation counts on;
    - ``others`` int64 ``(n, 2)``: those by the other orientation;
    - ``turns`` int64 ``(n,)``: EXIF orientations, 1 to 8;
    - ``orientation``: whether annotations count on ``"stored"`` or ``"upright"`` pixels.
    """

    sizes: np.ndarray
    others: np.ndarray
    turns: np.ndarray
    orientation: str

    def upright(self, boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return the boxes ``(N, 4)`` of annotations as boxes on upright pixels; `images` has the row of each."""
        return boxes if self.orientation == UPRIGHT else upright_boxes(boxes, self.sizes[images], self.turns[images])

    def otherwise(self) -> "Frames":
        """Return the frames for annotations that count on the other orientation."""
        return Frames(self.others, self.sizes, self.turns, STORED if self.orientation == UPRIGHT else UPRIGHT)

    def exif_hint(self, row: int) -> str:
        """Return how to read annotations that fit image `row` if it is turned by EXIF."""
        other = self.otherwise().orientation
        return f"it fits the image {other}, by its EXIF orientation {self.turns[row]}: pass orientation={other!r}"


def frames_of(stored: np.ndarray, turns: np.ndarray, orientation: str) -> Frames:
    """Return the frames of images of `stored` sizes ``(n, 2)`` whose annotations count on this orientation."""
    upright = upright_sizes(stored, turns)
    sizes, others = (stored, upright) if orientation == STORED else (upright, stored)
    return Frames(sizes, others, turns, orientation)


def check_orientation(orientation: object) -> None:
    """Raise a ConfigError unless `orientation` is ``"stored"`` or ``"upright"``."""
    if orientation not in (STORED, UPRIGHT):
        raise ConfigError(
            f"orientation={shown(orientation)} is not allowed{did_you_mean(orientation, (STORED, UPRIGHT))}"
        )


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, of an image that is opened but not decoded; 1 where it says none."""
    try:
        # PNG's own getexif would decode all pixels, to look for a tag behind them
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # whatever a damaged tag makes of Pillow's parser, the pixels are still good
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored pixels ``(H, W, 3)`` upright."""
    if orientation == 1:
        return pixels
    pixels = pixels[:, ::-1] if orientation in _MIRRORED_X else pixels
    pixels = pixels[::-1] if orientation in _MIRRORED_Y else pixels
    return (pixels.swapaxes(0, 1) if orientation in _SWAPPED else pixels).copy()


def upright_sizes(sizes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Return the ``(height, width)`` ``(n, 2)`` of images that are stored with `sizes`, once they are upright."""
    return np.where(np.isin(orientations, _SWAPPED)[:, None], sizes[:, ::-1], sizes)


def upright_boxes(boxes: np.ndarray, sizes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Return boxes ``(n, 4)`` on stored pixels as boxes on upright ones; `sizes` are the stored ones, a row per box."""
    boxes = _mirrored(boxes, sizes, orientations)
    return np.where(np.isin(orientations, _SWAPPED)[:, None], boxes[:, [1, 0, 3, 2]], boxes)


def stored_boxes(boxes: np.ndarray, sizes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Return boxes ``(n, 4)`` on upright pixels as boxes on the stored ones: undoes `upright_boxes`."""
    boxes = np.where(np.isin(orientations, _SWAPPED)[:, None], boxes[:, [1, 0, 3, 2]], boxes)
    return _mirrored(boxes, sizes, orientations)


def _mirrored(boxes: np.ndarray, sizes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Mirror boxes in the stored frame along the axes that their image's orientation mirrors."""
    boxes = boxes.copy()
    for axis, values in ((0, _MIRRORED_X), (1, _MIRRORED_Y)):
        rows = np.isin(orientations, values)
        extent = sizes[rows, 1 - axis, None].astype(boxes.dtype)
        boxes[rows, axis::2] = extent - boxes[rows, axis::2][:, ::-1]
    return boxes
