"""Pixels and sizes of single images."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from ..files import atomic_path
from .orientation import Frames, frames_of, orientation_of, stored_boxes, upright_pixels, upright_sizes

if TYPE_CHECKING:  # torch takes seconds to load, which reading annotations need not wait for
    import torch

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

# An image of more pixels (13,377 squared, what Pillow allows) is refused by its header: a file of a few bytes can tell
# of any size, and to decode it would take that much memory.
MAX_PIXELS = 178_956_970

# What the content may be, whatever the file is called; of all that Pillow reads, some formats run other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


@dataclass(frozen=True)
class EncodedImage:
    """An image file that was read already: from a table or an object store, say; `name` is what errors call it."""

    name: str
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name


def read_image(x: str | Path | EncodedImage | np.ndarray) -> torch.Tensor:
    """Return one image as an RGB tensor, upright: turned as the EXIF orientation of its file says.

    Parameters
    ----------
    x : str, Path, EncodedImage or uint8 ndarray of shape (H, W, 3)
        One element of `DetectionData.X`, or the content of a file. Grey, palette, CMYK and 16-bit files are converted,
        alpha is dropped.

    Returns
    -------
    image : uint8 Tensor of shape (3, H, W)
        A copy; changing it does not change `x`.

    Raises
    ------
    DataError
        If the file is missing, does not decode, is an animation or has more than `MAX_PIXELS` pixels, or the array is
        not an RGB image.
    """
    import torch

    if isinstance(x, np.ndarray):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
            raise DataError(f"an image array must be uint8 of shape (H, W, 3), not {x.dtype} of shape {x.shape}")
        return torch.from_numpy(x.transpose(2, 0, 1).copy())
    with _opened(x) as image:
        orientation = orientation_of(image)
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photograph and its preview
        if frames > 1:
            raise DataError(f"{x}: an animation of {frames} frames, not one image; save a single frame")
        pixels = upright_pixels(_rgb(image), orientation)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _rgb(image: Image.Image) -> np.ndarray:
    """Decode an image to uint8 ``(H, W, 3)``."""
    if image.mode.startswith("I"):  # 16-bit grey
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    image.info.pop("transparency", None)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def image_size(x: str | Path | np.ndarray) -> tuple[int, int]:
    """Return the ``(height, width)`` in pixels of one image as `read_image` gives it, from the file's header alone.

    Raises
    ------
    DataError
        If the file is missing, is not an image or has more than `MAX_PIXELS` pixels.
    """
    if isinstance(x, np.ndarray):
        return x.shape[0], x.shape[1]
    size, orientation = stored_frame(x)
    height, width = upright_sizes(np.array([size]), np.array([orientation]))[0].tolist()
    return height, width


def stored_frame(path: str | Path | EncodedImage) -> tuple[tuple[int, int], int]:
    """Return the ``(height, width)`` of the pixels as they are stored, and the EXIF orientation, 1 to 8."""
    with _opened(path) as image:
        return (image.height, image.width), orientation_of(image)


def read_frames(paths: Sequence[str], orientation: str) -> Frames:
    """Return the frames of many images whose annotations count on this orientation."""
    with ThreadPoolExecutor(8) as pool:  # hides the latency of the disk
        frames = list(pool.map(stored_frame, paths))
    sizes = np.array([size for size, _ in frames], dtype=np.int64).reshape(-1, 2)
    return frames_of(sizes, np.array([turn for _, turn in frames], dtype=np.int64), orientation)


def on_stored_pixels(
    x: str | Path | EncodedImage | np.ndarray, boxes: np.ndarray
) -> tuple[tuple[int, int], np.ndarray]:
    """Return the stored ``(height, width)`` of an image, and the boxes on its upright pixels as boxes on those."""
    size, turn = (image_size(x), 1) if isinstance(x, np.ndarray) else stored_frame(x)
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return size, stored_boxes(boxes, np.tile(size, (len(boxes), 1)), np.full(len(boxes), turn))


@contextmanager
def _opened(path: str | Path | EncodedImage) -> Iterator[Image.Image]:
    """Open an image file and check its header; whatever goes wrong here or in the body names the file in one line."""
    file = path
    if isinstance(path, EncodedImage):
        file = io.BytesIO(path.content)
    else:
        _require_file(path)
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.height * image.width > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: has more than {MAX_PIXELS:,} pixels; make the image smaller or cut it up") from error
    except Exception as error:  # at a damaged file Pillow's decoders raise anything, from SyntaxError to struct.error
        reason = "not JPEG, PNG, WebP or GIF" if isinstance(error, UnidentifiedImageError) else str(error)[:100]
        mend = "replace the file, or take it out of the data set"
        raise DataError(f"{path}: the image does not decode ({reason}); {mend}") from error


def stored_suffix(x: str | Path | np.ndarray) -> str:
    """Return the suffix of the file that `store_image` writes."""
    return ".png" if isinstance(x, np.ndarray) else Path(x).suffix


def store_image(x: str | Path | np.ndarray, target: Path) -> Path:
    """Write one image as `target` plus a suffix, atomically, and return that path.

    An array becomes a PNG, from which `read_image` gives the very same pixels; a file is copied and keeps its suffix.
    """
    if not isinstance(x, np.ndarray):
        _require_file(x)
    path = target.with_name(target.name + stored_suffix(x))
    with atomic_path(path) as temporary:
        if isinstance(x, np.ndarray):
            Image.fromarray(read_image(x).permute(1, 2, 0).numpy()).save(temporary, "PNG")
        else:
            shutil.copyfile(x, temporary)
    return path


def _require_file(path: str | Path) -> None:
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such image file; add it or remove its id")
