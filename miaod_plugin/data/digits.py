"""Digit scenes: an object-detection data set that is made in seconds from what scikit-learn ships, never downloaded.

Real handwritten digits (the 1,797 of `sklearn.datasets.load_digits`) are drawn at random places, sizes and colours over
softened crops of two photographs (`sklearn.datasets.load_sample_images`).
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits, load_sample_images

from ..errors import ConfigError, shown
from ..parameters import Count, Number, Seed, Several, Whole, checked
from .detection_data import DetectionData, make_targets

SPLITS = ("train", "test")
TEST_EVERY = 4  # every fourth digit belongs to the test split, and so does the lower third of each photograph
CONTRAST = 0.5  # of the photographs, so that digits stand out
VISIBLE = (0.25, 0.5)  # how much lighter or darker a digit is than what it covers
INK = 0.42  # a pixel is part of a digit, and of its box, from this opacity on
MARGIN = 2  # pixels around a drawn digit for its soft edge
PLACES = 24  # tried for each object before it is left out
MAX_COVERED = 0.2  # share of the smaller of two boxes that the other may cover
BATCH = 256  # images made at once: few Python steps, little memory
MOST_PIXELS = 1024  # side of an image
MOST_BYTES = 16 << 30  # of all images

ClassCount = Annotated[int, Whole(1, 10)]
ImageSize = Annotated[int, Whole(10, MOST_PIXELS)]
ObjectSize = Annotated[Sequence[int], Several(Annotated[int, Whole(8, MOST_PIXELS)], 2)]
MostObjects = Annotated[int, Whole(0, 1000)]
Imbalance = Annotated[float, Number(1, 1e6)]


@checked
def make_digit_scenes(
    n_images: Count,
    split: Literal["train", "test"] = "train",
    n_classes: ClassCount = 5,
    image_size: ImageSize = 64,
    object_size: ObjectSize = (16, 40),
    max_objects: MostObjects = 6,
    imbalance: Imbalance = 1.0,
    random_state: Seed | None = 0,
) -> DetectionData:
    """Make images with handwritten digits and their boxes.

    Parameters
    ----------
    n_images : int
    split : {"train", "test"}
        The two share no digit and no piece of background, whatever their `random_state`.
    n_classes : int
        The digits 0 to ``n_classes - 1``, at most 10.
    image_size : int
        Height and width in pixels.
    object_size : (int, int)
        Smallest and largest length of the longer side of a digit, in pixels, both inclusive.
    max_objects : int
        An image is given 0 to `max_objects` objects, equally likely; one for which there is no room is left out.
    imbalance : float
        How many times as frequent class 0 is as the last class; frequencies fall geometrically in between.
    random_state : int or None
        The same seed gives bit-identical data; None gives new data each time. Global random state is not touched.

    Returns
    -------
    data : DetectionData
        `X` is uint8 ``(n_images, image_size, image_size, 3)``; boxes are whole pixels, tight around the strokes.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """
    check_sizes(n_images, image_size, object_size)
    rng = np.random.default_rng(np.random.SeedSequence(random_state, spawn_key=(SPLITS.index(split),)))
    backgrounds, digits = _soft_photographs(split, image_size), _digits_by_class(split)
    frequencies = imbalance ** -np.linspace(0, 1, n_classes)
    frequencies /= frequencies.sum()

    pixels = np.empty((n_images, image_size, image_size, 3), dtype=np.uint8)
    targets = []
    for start in range(0, n_images, BATCH):
        images = _crops(rng, backgrounds, min(BATCH, n_images - start), image_size)
        owners = np.repeat(np.arange(len(images)), rng.integers(0, max_objects + 1, len(images)))
        labels = rng.choice(n_classes, len(owners), p=frequencies)
        targets += _draw_objects(rng, images, owners, labels, digits, object_size)
        pixels[start : start + BATCH] = np.rint(images * 255)
    ids = np.array([f"{split}_{k:06d}" for k in range(n_images)], dtype=str)
    return DetectionData(pixels, make_targets(targets), tuple(map(str, range(n_classes))), ids, split)


def check_sizes(n_images: int, image_size: int, object_size: Sequence[int]) -> None:
    """Raise a ConfigError if the objects do not fit into the images, or the images into memory."""
    smallest, largest = object_size
    if not smallest <= largest <= image_size - 2:
        raise ConfigError(f"object_size: {shown(object_size)} must rise, to image_size - 2 = {image_size - 2} at most")
    if n_images * image_size**2 * 3 > MOST_BYTES:
        raise ConfigError(
            f"n_images: {n_images} images of {image_size} pixels are more than {MOST_BYTES >> 30} GiB; make fewer"
        )


def _soft_photographs(split: str, size: int) -> list[np.ndarray]:
    """Return this split's part of the photographs at two distances, blurred, float32 in 0..1."""
    pictures = []
    for photograph in load_sample_images().images:
        border = photograph.shape[0] * 2 // 3
        region = photograph[:border] if split == "train" else photograph[border:]
        blurred = ndimage.gaussian_filter(region / np.float32(255), (1.2, 1.2, 0))
        for zoom in (1.0, 0.5):
            zoom = max(zoom, (size + 1) / min(region.shape[:2]))
            pictures.append(ndimage.zoom(blurred, (zoom, zoom, 1), order=1, grid_mode=True, mode="nearest"))
    return pictures


def _crops(rng, pictures: list[np.ndarray], n: int, size: int) -> np.ndarray:
    """Return random crops of random brightness and low contrast, float32 ``(n, size, size, 3)`` in 0..1."""
    crops = np.empty((n, size, size, 3), dtype=np.float32)
    for k, choice in enumerate(rng.integers(0, len(pictures), n)):
        height, width, _ = pictures[choice].shape
        top, left = rng.integers(0, (height - size + 1, width - size + 1))
        crops[k] = pictures[choice][top : top + size, left : left + size]
    flip = rng.random(n) < 0.5
    crops[flip] = crops[flip, :, ::-1]
    mean = crops.mean(axis=(1, 2), keepdims=True)
    brightness = rng.uniform(0.25, 0.75, (n, 1, 1, 1)).astype(np.float32) - mean.mean(axis=3, keepdims=True)
    crops *= CONTRAST
    crops += (1 - CONTRAST) * mean + 0.7 * brightness  # the hue stays
    return np.clip(crops, 0, 1, out=crops)


def _digits_by_class(split: str) -> list[np.ndarray]:
    """Return the handwritten digits of this split, one float64 array ``(n, 8, 8)`` in 0..1 per class."""
    images, classes = load_digits(return_X_y=True)
    mine = (np.arange(len(classes)) % TEST_EVERY == 0) == (split == "test")
    return [images[mine & (classes == digit)].reshape(-1, 8, 8) / 16 for digit in range(10)]


def _draw_objects(rng, images, owners, labels, digits, object_size) -> list[dict]:
    """Draw a digit of each label into the image that owns it (rows of `images`, sorted); return the targets."""
    draws = rng.random(len(labels))
    glyphs = [digits[label][int(draw * len(digits[label]))] for label, draw in zip(labels, draws, strict=True)]
    sizes = rng.integers(object_size[0], object_size[1] + 1, len(owners))
    opacity = _draw_glyphs(np.reshape(glyphs, (-1, 8, 8)), sizes, object_size[1])  # (n_objects, S, S)
    inked = _ink_boxes(opacity)
    extents = inked[:, 2:] - inked[:, :2]
    corners = _place(rng, owners, extents, *images.shape[:2])
    colours, strengths = rng.random((len(owners), 3)), rng.uniform(*VISIBLE, len(owners))
    placed = np.flatnonzero(corners[:, 0] >= 0)
    for k in placed:
        _blend(images[owners[k]], opacity[k], inked[k], corners[k], colours[k], strengths[k])
    boxes = np.concatenate([corners, corners + extents], axis=1).astype(np.float32)
    rows = [placed[start:end] for start, end in _runs(owners[placed], len(images))]
    return [{"boxes": boxes[row], "labels": labels[row].astype(np.int64)} for row in rows]


def _draw_glyphs(glyphs: np.ndarray, sizes: np.ndarray, largest: int) -> np.ndarray:
    """Enlarge each 8 x 8 glyph until its ink is `sizes` pixels long; return opacity, float32 ``(n_objects, S, S)``.

    The glyph is a smooth surface (cubic interpolation) cut at a level; the cut is soft over about a pixel, at any size.
    """
    fine = 8  # samples per source pixel in which the ink is measured
    grid = (np.arange(8 * fine + 2 * fine) + 0.5) / fine - 1.5
    kernel = _cubic(grid[:, None] - np.arange(8))
    ink = _ink_boxes(kernel @ glyphs @ kernel.T) / fine - 1.0  # x1, y1, x2, y2 in source pixels, edges
    centre, length = (ink[:, :2] + ink[:, 2:]) / 2, (ink[:, 2:] - ink[:, :2]).max(axis=1, initial=1)
    pixels = np.arange(largest + 2 * MARGIN) + 0.5 - (largest / 2 + MARGIN)
    step = length / sizes  # source pixels per pixel
    positions = centre[:, :, None] - 0.5 + pixels * step[:, None, None]  # (n_objects, 2, S)
    across, down = np.moveaxis(_cubic(positions[..., None] - np.arange(8)), 1, 0)
    surface = (down @ glyphs @ across.transpose(0, 2, 1)).astype(np.float32)
    # The surface rises by about 0.5 per source pixel at a stroke's edge.
    return np.clip((surface - INK) / (0.75 * step[:, None, None]) + INK, 0, 1).astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel (a = -0.5), the weight of a sample at each distance."""
    d = np.abs(distance)
    return np.where(d < 1, (1.5 * d - 2.5) * d**2 + 1, np.where(d < 2, ((-0.5 * d + 2.5) * d - 4) * d + 2, 0))


def _ink_boxes(opacity: np.ndarray) -> np.ndarray:
    """Return the tight box ``x1, y1, x2, y2`` around the ink of each picture, int64 ``(n, 4)``."""
    ink = opacity >= INK
    edges = []
    for along in (ink.any(axis=1), ink.any(axis=2)):  # columns, then rows
        edges.append((along.argmax(axis=1), along.shape[1] - along[:, ::-1].argmax(axis=1)))
    (x1, x2), (y1, y2) = edges
    return np.stack([x1, y1, x2, y2], axis=1)


def _runs(owners: np.ndarray, n_images: int) -> np.ndarray:
    """Return where the rows of each image start and end in the sorted `owners`, ``(n_images, 2)``."""
    return np.stack([np.searchsorted(owners, np.arange(n_images), side) for side in ("left", "right")], axis=1)


def _place(rng, owners: np.ndarray, extents: np.ndarray, n_images: int, size: int) -> np.ndarray:
    """Return the top-left corner ``x, y`` of each object, int64 ``(n_objects, 2)``; -1 where no place was free.

    All images are filled at once: their first objects, then their second ones, and so on.
    """
    corners = np.full((len(owners), 2), -1)
    runs = _runs(owners, n_images)
    for slot in range(int((runs[:, 1] - runs[:, 0]).max(initial=0))):
        objects = (runs[:, 0] + slot)[runs[:, 0] + slot < runs[:, 1]]
        extent = extents[objects][:, None]
        tries = rng.integers(0, size - extent + 1, (len(objects), PLACES, 2))
        free = np.ones((len(objects), PLACES), dtype=bool)
        for before in range(1, slot + 1):
            other, other_extent = corners[objects - before][:, None], extents[objects - before][:, None]
            overlap = np.minimum(tries + extent, other + other_extent) - np.maximum(tries, other)
            smaller = np.minimum(extent.prod(axis=2), other_extent.prod(axis=2))
            free &= (other[..., 0] < 0) | (overlap.clip(0).prod(axis=2) <= MAX_COVERED * smaller)
        first = free.argmax(axis=1)
        corners[objects] = np.where(free.any(axis=1)[:, None], tries[np.arange(len(objects)), first], -1)
    return corners


def _blend(image: np.ndarray, opacity: np.ndarray, inked: np.ndarray, corner: np.ndarray, colour, strength) -> None:
    """Draw one digit in place, in a colour that is lighter or darker than what it covers by about `strength`."""
    size, drawn = image.shape[0], opacity.shape[0]
    width, height = inked[2:] - inked[:2]
    covered = image[corner[1] : corner[1] + height, corner[0] : corner[0] + width].mean()
    level = covered + (strength if covered < 0.5 else -strength)
    colour = np.clip(colour - colour.mean() + level, 0, 1)
    left, top = corner - inked[:2]  # of the whole picture, whose margins may hang over the image
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + drawn, size), min(top + drawn, size)
    patch = image[y1:y2, x1:x2]
    patch += opacity[y1 - top : y2 - top, x1 - left : x2 - left, None] * (colour - patch)
