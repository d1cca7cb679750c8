"""Photographs that a camera took turned, of one object that is the only bright thing on them."""

import numpy as np
from PIL import Image

ORIENTATIONS = range(1, 9)
HEIGHT, WIDTH = 30, 40
OBJECT_BOX = (5, 3, 17, 12)  # of the only bright pixels, on the stored image


def save_photograph(path, orientation: int, suffix: str = ".png", **options) -> np.ndarray:
    """Write an image whose pixels are stored turned, and return them as they are stored."""
    pixels = np.random.default_rng(0).integers(0, 100, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    x1, y1, x2, y2 = OBJECT_BOX
    pixels[y1:y2, x1:x2] += 150
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path.with_suffix(suffix), exif=exif, **options)
    return pixels


def bright_box(pixels: np.ndarray) -> list[int]:
    """Return the box around the bright pixels of an image ``(H, W, 3)``."""
    rows, columns = (np.flatnonzero((pixels >= 150).all(axis=2).any(axis=axis)) for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
