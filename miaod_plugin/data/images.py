"""Pixels and sizes of single images.

EXIF orientation is not applied: annotations refer to the pixels as they are stored, which is also how their `size` /
`width` / `height` fields count, so an image and its boxes always agree whatever a camera wrote into the header.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_image, encode_png
from torchvision.transforms.v2.functional import to_dtype

from miaod_plugin.errors import DataError
from miaod_plugin.files import atomic_path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def read_image(x: str | Path | np.ndarray) -> torch.Tensor:
    """Return one image as an RGB tensor.

    Parameters
    ----------
    x : str, Path or uint8 ndarray of shape (H, W, 3)
        One element of `DetectionData.X`. Grey, palette, CMYK and 16-bit files are converted, alpha is dropped.

    Returns
    -------
    image : uint8 Tensor of shape (3, H, W)
        A copy; changing it does not change `x`.

    Raises
    ------
    DataError
        If the file is missing or does not decode, or the array is not an RGB image.
    """
    if isinstance(x, np.ndarray):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
            raise DataError(f"an image array must be uint8 of shape (H, W, 3), not {x.dtype} of shape {x.shape}")
        return torch.from_numpy(x.transpose(2, 0, 1).copy())
    _require_file(x)
    try:
        image = decode_image(str(x), mode=ImageReadMode.RGB, apply_exif_orientation=False)
    except RuntimeError as error:
        # torchvision's messages are "function, source location, reason"; the reason may be several sentences
        reason = str(error).splitlines()[0].split(", ", 2)[-1].split(". ")[0]
        raise DataError(f"{x}: the image does not decode ({reason}); replace the file or remove its id") from error
    if image.ndim != 3:
        raise DataError(f"{x}: an animation of {image.shape[0]} frames, not one image; save a single frame")
    return to_dtype(image, torch.uint8, scale=True)


def image_size(x: str | Path | np.ndarray) -> tuple[int, int]:
    """Return the ``(height, width)`` in pixels of one image, from the file's header alone.

    Raises
    ------
    DataError
        If the file is missing or is not an image.
    """
    if isinstance(x, np.ndarray):
        return x.shape[0], x.shape[1]
    _require_file(x)
    try:
        with Image.open(x) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise DataError(f"{x}: not an image that can be read; replace the file or remove its id") from error


def image_sizes(paths: Sequence[str]) -> np.ndarray:
    """Return the ``(height, width)`` of many images, int64 ``(n, 2)``; threads hide the latency of the disk."""
    with ThreadPoolExecutor(8) as pool:
        return np.array(list(pool.map(image_size, paths)), dtype=np.int64).reshape(-1, 2)


def store_image(x: str | Path | np.ndarray, target: Path) -> Path:
    """Write one image as `target` plus a suffix, atomically, and return that path.

    An array becomes a PNG, from which `read_image` gives the very same pixels; a file is copied and keeps its suffix.
    """
    if not isinstance(x, np.ndarray):
        _require_file(x)
    path = target.with_name(target.name + (".png" if isinstance(x, np.ndarray) else Path(x).suffix))
    with atomic_path(path) as temporary:
        if isinstance(x, np.ndarray):
            temporary.write_bytes(encode_png(read_image(x)).numpy().tobytes())
        else:
            shutil.copyfile(x, temporary)
    return path


def _require_file(path: str | Path) -> None:
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such image file; add it or remove its id")
