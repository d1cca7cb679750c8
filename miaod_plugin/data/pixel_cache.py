"""A file of decoded images, which every process that reads the same images shares.

The file is a log: `_BEGIN`, then one record after the other, each a header and the pixels of an image. Records are only
ever added, behind the last whole one and under a lock, so a process may be killed at any moment: what it was writing is
overwritten. Whoever reads needs no lock, since a record counts once the whole of it is there. It is read, not mapped
into memory, which would count for a process's memory whatever the bound, and end it where the file is cut off.
"""

import hashlib
import logging
import os
import shutil
import stat
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import PIL
from filelock import FileLock

from ..errors import ConfigError
from .images import MAX_PIXELS, read_image

if TYPE_CHECKING:
    import torch

LEAVE_FREE = 1 << 30  # bytes of a disk that are for models and reports, however large a cache may be

PATIENCE = 10.0  # seconds for another process to write an image, before adding any is given up

_BEGIN = b"miaod pixels 1\n\0"
_HEADER = struct.Struct("<32sIII")  # key, height, width, checksum
_logger = logging.getLogger(__name__)


class _Record(NamedTuple):
    """The header of a record."""

    key: bytes
    height: int
    width: int
    checksum: int

    @property
    def size(self) -> int:
        """The bytes of the whole record."""
        return _HEADER.size + 3 * self.height * self.width


class PixelCache:
    """Reads images as `read_image` does, each file once: then its pixels come from the cache.

    An image is the same while its path, size and time of change are. Images are added until the next one would make the
    cache larger than its bound, or the disk full; the others are decoded each time. Nothing is ever taken out: in
    training every image comes as often as any other, so that none deserves its place more.

    Parameters
    ----------
    path : path
        The cache's file, made when it is missing; it may be deleted at any time. ``path.lock`` lies beside it.
    most_bytes : int
        The largest that the file may be.

    Raises
    ------
    ConfigError
        If something else is at `path`.
    """

    def __init__(self, path: str | os.PathLike, most_bytes: int):
        self.path, self.most_bytes = Path(path), most_bytes
        self._closed = False  # nothing can be added
        self._forget()
        self._require_own()

    def read(self, x: str | Path | np.ndarray) -> "torch.Tensor":
        """Return one image as `read_image` does, with the same pixels and strides."""
        key = None if isinstance(x, np.ndarray) else _key(x)
        if key is None:
            return read_image(x)
        import torch

        pixels = self._stored(key)
        if pixels is not None:
            return torch.from_numpy(pixels).permute(2, 0, 1)
        image = read_image(x)
        self._add(key, np.ascontiguousarray(image.permute(1, 2, 0)))
        return image

    def _forget(self) -> None:
        self._file = 0  # its inode
        self._offsets: dict[bytes, int] = {}  # of the records known so far
        self._end = len(_BEGIN)  # of the last of them

    def _stored(self, key: bytes) -> np.ndarray | None:
        """Return the pixels ``(H, W, 3)`` of a record, None if there is none or it is damaged."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                if key not in self._offsets:
                    self._look_further(file)
                offset = self._offsets.get(key)
                record = None if offset is None else _header(file, offset)
                if record is None or record.key != key:
                    return None
                pixels = np.empty((record.height, record.width, 3), np.uint8)
                whole = file.readinto(pixels) == pixels.nbytes
        except OSError:
            return None
        return pixels if whole and _checksum(pixels) == record.checksum else None

    def _look_further(self, file: BinaryIO) -> int:
        """Learn of the records that were added since the last look, by whichever process; return the last one's end."""
        state = os.fstat(file.fileno())
        if state.st_ino != self._file or state.st_size < self._end:  # another file than before
            self._forget()
        end = self._end  # a copy, since other threads look too
        while (record := _header(file, end)) is not None and end + record.size <= state.st_size:
            self._offsets[record.key] = end
            end += record.size
        self._file, self._end = state.st_ino, end
        return end

    def _add(self, key: bytes, pixels: np.ndarray) -> None:
        """Add a record, unless that makes the cache too large or the disk full, or it cannot be written."""
        record = _Record(key, *pixels.shape[:2], _checksum(pixels))
        if self._closed or self._end + record.size > self.most_bytes:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", PATIENCE, poll_interval=0.001), open(self.path, "ab+") as file:
                self._append(file, record, pixels)
        except OSError as error:
            self._close(error.strerror or str(error).rstrip("."))

    def _append(self, file: BinaryIO, record: _Record, pixels: np.ndarray) -> None:
        file.seek(0)
        begin = file.read(len(_BEGIN))
        if not _BEGIN.startswith(begin):
            self._close("is no cache of pixels any more")
            return
        if begin != _BEGIN:
            file.truncate(0)
            file.write(_BEGIN)
            file.flush()
        end = self._look_further(file)
        if record.key in self._offsets or end + record.size > self.most_bytes:
            return
        if shutil.disk_usage(self.path.parent).free < LEAVE_FREE + record.size:
            self._close(f"less than {LEAVE_FREE >> 30} GiB of the disk is free")
            return
        file.truncate(end)  # what a killed process had begun to write
        file.write(_HEADER.pack(*record))  # buffered: all of it, or an OSError
        file.write(pixels)
        file.flush()
        self._look_further(file)

    def _close(self, reason: str) -> None:
        if not self._closed:
            _logger.warning(f"{self.path}: {reason}; images that it does not hold are decoded each time")
        self._closed = True

    def _require_own(self) -> None:
        """Raise a ConfigError if something else than a cache, or the beginning of one, is at the path."""
        try:
            own = stat.S_ISREG(os.stat(self.path).st_mode)
            if own:
                with open(self.path, "rb") as file:
                    own = _BEGIN.startswith(file.read(len(_BEGIN)))
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"cache: {self.path}: cannot be read: {error.strerror}") from None
        if not own:
            raise ConfigError(f"cache: {self.path}: is no cache of pixels; give another file, or remove this one")


@lru_cache(maxsize=4)
def pixel_cache(path: str, most_bytes: int) -> PixelCache:
    """Return the process's cache at a path, which knows its records from one pass over images to the next."""
    return PixelCache(path, most_bytes)


def _checksum(pixels: np.ndarray) -> int:
    """Return a CRC-32 of pixels and their shape."""
    return zlib.crc32(pixels, zlib.crc32(repr(pixels.shape).encode()))


def _header(file: BinaryIO, offset: int) -> _Record | None:
    """Return the header of the record at an offset, None where there is none or it cannot be one."""
    file.seek(offset)
    content = file.read(_HEADER.size)
    if len(content) < _HEADER.size:
        return None
    record = _Record(*_HEADER.unpack(content))
    return record if 0 < record.height * record.width <= MAX_PIXELS else None


def _key(path: str | Path) -> bytes | None:
    """Return what tells an image from any other: its file, and what decodes it; None if the file is missing."""
    state = file_state(path)
    if state is None:
        return None
    return hashlib.sha256(repr((os.path.abspath(path), state, PIL.__version__)).encode("utf-8", "replace")).digest()


def file_state(path: str | Path) -> tuple[int, int] | None:
    """Return the size and the time of the last change of a file, ``None`` if it is missing, which reading tells of."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return state.st_size, state.st_mtime_ns
