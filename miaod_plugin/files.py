"""Files that are written whole or not at all, and read within bounds."""

import errno
import glob
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigError, MiaodError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success it is synced and renamed to `path`, else removed.

    The folder is created when it is missing. A reader sees the old file or the whole new one, never a part.

    Raises
    ------
    OSError
        With ENOSPC when the disk is full, whichever way the library that writes says it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write does not know it
        raise
    except Exception as error:
        full = os.strerror(errno.ENOSPC) in str(error) or shutil.disk_usage(path.parent).free < 1 << 16
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, error: type[MiaodError] = ConfigError) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is renamed to `path`, else removed with what is in it.

    Raises
    ------
    MiaodError
        An `error` where `path` is there already, unless as an empty folder: nothing is replaced.
    """
    path = Path(path)
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise error(f"{path}: is there already and would be replaced; remove it or write to another folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had the same number
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_text(path: str | Path, most_bytes: int, error: type[MiaodError] = ConfigError) -> str:
    """Return the text of a file, UTF-8 with or without a byte order mark.

    Raises
    ------
    MiaodError
        An `error` where there is no such file, but a folder, pipe or device, or it has more than `most_bytes`, or bytes
        that are not UTF-8.
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
        content = b""
        if regular:
            with open(path, "rb") as file:
                content = file.read(most_bytes + 1)
    except (OSError, ValueError) as problem:  # ValueError: a name that no system takes
        raise error(f"{path}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    if not regular:
        raise error(f"{path}: is not a file; give one")
    if len(content) > most_bytes:
        raise error(f"{path}: has more than {most_bytes:,} bytes; it needs far fewer")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        byte = content[problem.start]
        raise error(f"{path}: byte {problem.start} ({byte:#04x}) is not UTF-8; save it as UTF-8 text") from None


def left_overs(path: Path) -> list[Path]:
    """Return the temporary files of `path` that processes left behind which were killed, see `atomic_path`."""
    begin, end = f".{path.name}.", f".part{path.suffix}"
    return [
        found
        for found in path.parent.glob(f"{glob.escape(begin)}*{glob.escape(end)}")
        if found.name[len(begin) : -len(end)].isdecimal() and found.is_file() and not found.is_symlink()
    ]
