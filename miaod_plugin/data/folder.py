"""A plain folder of images without any annotation: what a pool needs."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError, shown
from .detection_data import DetectionData, make_targets
from .images import IMAGE_SUFFIXES
from .paths import is_writable, require_folder
from .validation import check_class_names


def load_folder(folder: str | Path, classes: Sequence[str] = ()) -> DetectionData:
    """Load every image in a folder and its sub-folders, unlabelled; `read_image` turns photographs upright.

    Parameters
    ----------
    folder : path
        Files ending in .jpg, .jpeg, .png or .webp are taken, hidden ones are not. Links to folders are not followed.
    classes : sequence of str
        Names of the classes to look for, if they are known.

    Returns
    -------
    data : DetectionData
        Sorted by id; an id is the path relative to `folder`, with ``/``. Every target is ``None``. The split has the
        folder's name.

    Raises
    ------
    DataError
        If the folder is missing, holds no images, or one has a name that UTF-8 cannot write.
    """
    folder = Path(folder)
    require_folder(folder, f"a folder of images ({', '.join(IMAGE_SUFFIXES)})")
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    ids = sorted(path.relative_to(folder).as_posix() for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
    if not ids:
        raise DataError(f"{folder}: holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    for name in ids:
        if not is_writable(name):
            raise DataError(f"{folder}: {shown(name)} is no name that a text file can hold; rename the image")
    paths = np.array([str(folder / name) for name in ids], dtype=str)
    classes = check_class_names(classes, str(folder))
    y = make_targets([None] * len(ids))
    return DetectionData(paths, y, classes, np.array(ids, dtype=str), folder.resolve().name)
