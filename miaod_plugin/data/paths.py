"""Where the files of a data set lie: nothing a data file names may lead out of its folder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from ..errors import DataError, shown

# What no name may hold: control characters, line ends, and the halves of characters that UTF-8 cannot write.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_writable(name: str) -> bool:
    """Whether a name can be written on a line of a text file and read back."""
    return not _UNWRITABLE.search(name)


def path_inside(folder: Path, name: str, source: str | Path) -> Path:
    """Return ``folder / name`` for a `name` that the data file `source` gives.

    Raises
    ------
    DataError
        If `name` is empty, absolute, climbs with ``..``, reaches another folder through a symbolic link, or holds what
        no text file can.
    """
    check_relative(folder, name, source)
    path = folder / name
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):
        raise DataError(f"{source}: {shown(name)} is a link that leaves {folder}; put the file itself there")
    return path


def check_relative(folder: str | Path, name: str, source: str | Path) -> None:
    """Raise a DataError if a `name` that `source` gives is empty, absolute, climbs, or holds what no text file can."""
    windows = PureWindowsPath(name)  # splits at both / and \, and sees drives: what no platform may follow
    if not name or not is_writable(name) or windows.anchor or ".." in windows.parts:
        raise DataError(f"{source}: {shown(name)} is not a path inside {folder}; use a relative path without '..'")


def require_folder(folder: Path, layout: str) -> None:
    """Raise a DataError that shows the expected `layout` unless `folder` exists."""
    if not os.path.isdir(folder):
        problem = "a file, not a folder" if os.path.isfile(folder) else "no such folder"
        raise DataError(f"{folder}: {problem}; expected {layout}")


def read_file(path: Path, layout: str, most_bytes: int | None = None) -> bytes:
    """Return the content of a file, or raise a DataError that shows the expected `layout` or tells of its size."""
    if not os.path.isfile(path):
        problem = "a folder, not a file" if os.path.isdir(path) else "no such file"
        raise DataError(f"{path}: {problem}; expected {layout}")
    try:
        if most_bytes is not None and os.path.getsize(path) > most_bytes:
            raise DataError(f"{path}: has more than {most_bytes:,} bytes; give it in parts")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file that can") from error


def files_in(folder: Path, suffix: str) -> Iterator[str]:
    """Yield the files with this suffix anywhere in a folder, relative to it, in the order of their names."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(suffix) and not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()
