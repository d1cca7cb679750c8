"""Where the files of a data set lie: nothing a data file names may lead out of its folder."""

import os
from pathlib import Path, PureWindowsPath

from miaod_plugin.errors import DataError


def path_inside(folder: Path, name: str, source: str | Path) -> Path:
    """Return ``folder / name`` for a `name` that the data file `source` gives.

    Raises
    ------
    DataError
        If `name` is empty, absolute, climbs with ``..``, or reaches another folder through a symbolic link.
    """
    windows = PureWindowsPath(name)  # splits at both / and \, and sees drives: what no platform may follow
    if not name or "\0" in name or windows.anchor or ".." in windows.parts:
        raise DataError(f"{source}: {name!r} is not a path inside {folder}; use a relative path without '..'")
    path = folder / name
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):
        raise DataError(f"{source}: {name!r} is a link that leaves {folder}; put the file itself there")
    return path


def require_folder(folder: Path, layout: str) -> None:
    """Raise a DataError that shows the expected `layout` unless `folder` exists."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected {layout}")


def require_file(path: Path, layout: str) -> None:
    """Raise a DataError that shows the expected `layout` unless the file `path` exists."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {layout}")
