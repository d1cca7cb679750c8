"""Photographs that a camera took turned: whichever way a tool shows them, boxes in memory lie on the upright image."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.images import read_frames
from ..data.orientation import STORED, UPRIGHT, Frames, check_orientation
from .base import Annotation, AnnotationFormat
from .checking import TurnedImage


class ImageSizes(Mapping):
    """Width and height of photographs by path, upright or as their pixels are stored.

    A file is opened when it is first asked about: a project may have thousands, an export names some of them, and a
    broken file is no matter to an export that does not name it.

    Parameters
    ----------
    folder : path
    paths : iterable of str
        Relative to the folder.
    orientation : {"upright", "stored"}

    Raises
    ------
    DataError
        If a file that is asked about is missing or no image.
    """

    def __init__(self, folder: str | Path, paths: Iterable[str], orientation: str = UPRIGHT):
        check_orientation(orientation)
        self.orientation = orientation
        self._files = {path: Path(folder, path) for path in paths}
        self._frames: dict[str, Frames] = {}

    def __getitem__(self, path: str) -> tuple[int, int]:
        height, width = self.frame(path).sizes[0].tolist()
        return width, height

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, path: object) -> bool:
        return path in self._files

    def frame(self, path: str) -> Frames:
        """Return the frame of one photograph."""
        if path not in self._frames:
            self._frames[path] = read_frames([str(self._files[path])], self.orientation)
        return self._frames[path]


def read_annotations(
    format: AnnotationFormat,
    source: str | Path,
    classes: Sequence[str],
    folder: str | Path,
    paths: Iterable[str],
    orientation: str | None = None,
) -> list[Annotation]:
    """Return what a labelling tool exported, with all boxes on the upright images, as `read_image` gives them.

    Parameters
    ----------
    format : AnnotationFormat
    source : path
        The export.
    classes : sequence of str
        In label order.
    folder : path
        The photographs.
    paths : iterable of str
        Those of the project, relative to the folder.
    orientation : {"upright", "stored"}, optional
        What was annotated of photographs that are turned by their EXIF orientation: the upright image, as browsers and
        most tools show it, or the pixels as they are stored. By default what the sizes in the export tell, and upright
        where they tell nothing.

    Raises
    ------
    DataError
        As `AnnotationFormat.read`; also if some sizes in the export are of upright images and others of stored ones.
    """
    if orientation is not None:
        check_orientation(orientation)
    paths = list(paths)
    sizes = ImageSizes(folder, paths, orientation or UPRIGHT)
    try:
        annotations = format.read(Path(source), list(classes), sizes)
    except TurnedImage:
        if orientation is not None:
            raise
        sizes = ImageSizes(folder, paths, STORED)
        annotations = format.read(Path(source), list(classes), sizes)
    return [_upright(one, sizes.frame(one.path)) for one in annotations]


def _upright(one: Annotation, frame: Frames) -> Annotation:
    boxes = frame.upright(one.boxes, np.zeros(len(one.boxes), dtype=np.int64))
    return replace(one, boxes=boxes.astype(np.float32))
