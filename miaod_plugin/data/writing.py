"""What both writers of data sets make sure of before they write anything.

Nothing that is there is replaced, nothing is written outside the folder, and every image has files of its own.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import DataError, shown
from .detection_data import DetectionData
from .images import on_stored_pixels
from .paths import is_writable, path_inside
from .validation import check_class_names, check_targets

LONGEST_NAME = 200  # bytes; file systems take 255, suffixes included


def check_writable(data: DetectionData) -> None:
    """Raise a DataError unless every image has a target, and an id that no other image's files could share."""
    check_class_names(data.classes, "classes")
    check_targets(data.y, len(data.classes))
    check_name("split", str(data.split))
    taken = {}
    for target, name in zip(data.y, map(str, data.ids), strict=True):
        if target is None:
            raise DataError(f"image {shown(name)} has no target; write labelled images only")
        check_name("ids", name)
        key = _file_key(name)
        if key in taken:
            raise DataError(
                f"ids: {shown(taken[key])} and {shown(name)} would share a file; give each image its own id"
            )
        taken[key] = name


def check_name(field: str, name: str) -> None:
    """Raise a DataError unless a name can be a file's, with a suffix, and come back from a line of a list."""
    if any(len(part.encode(errors="replace")) > LONGEST_NAME for part in name.split("/")):
        raise DataError(f"{field}: {shown(name)} is too long to name a file; give at most {LONGEST_NAME} bytes")
    if not name or name != name.strip() or not is_writable(name):
        raise DataError(f"{field}: {shown(name)} cannot name a file; give one line without blanks at its ends")


def _file_key(name: str) -> str:
    """Return what is the same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def new_file(folder: Path, name: str, source: str) -> Path:
    """Return the path of a file in `folder` that is not there yet, not even as a link that leads nowhere."""
    path = path_inside(folder, name, source)
    if os.path.lexists(path):
        raise DataError(f"{path}: is there already and would be replaced; remove it or write to another folder")
    parent = next(parent for parent in path.parents if os.path.lexists(parent))
    if not os.path.isdir(parent):
        raise DataError(f"{parent}: is a file where a folder is needed; remove it or write to another folder")
    return path


def stored_targets(data: DetectionData) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]]:
    """Yield ``(height, width)``, boxes on the stored pixels, labels, and which boxes to ignore, of each image."""
    for x, target in zip(data.X, data.y, strict=True):
        size, boxes = on_stored_pixels(x, target["boxes"])
        ignored = np.zeros(len(boxes), dtype=bool)
        for flag in ("difficult", "iscrowd"):
            ignored |= np.asarray(target.get(flag, ignored), dtype=bool)
        yield size, boxes, np.asarray(target["labels"]), ignored
