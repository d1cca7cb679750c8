"""Photographs that a camera took turned: whichever way a tool shows them, boxes in memory lie on the upright image."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.images import on_stored_pixels, read_frames
from ..data.orientation import UPRIGHT, Frames, check_orientation
from ..data.paths import path_inside
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import TurnedImage


def image_sizes(folder: str | Path, paths: Iterable[str], orientation: str = UPRIGHT) -> dict[str, tuple[int, int]]:
    """Return width and height of photographs, by their path in `folder`, upright or as their pixels are stored.

    Raises
    ------
    DataError
        If a file is missing or no image, or a path leaves the folder.
    """
    check_orientation(orientation)
    paths = list(paths)
    return _sizes(paths, _frames(folder, paths, orientation))


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
    frames = _frames(folder, paths, orientation or UPRIGHT)
    try:
        annotations = format.read(Path(source), list(classes), _sizes(paths, frames))
    except TurnedImage:
        if orientation is not None:
            raise
        frames = frames.otherwise()
        annotations = format.read(Path(source), list(classes), _sizes(paths, frames))
    rows = {path: row for row, path in enumerate(paths)}
    return [_upright(one, frames, rows[one.path]) for one in annotations]


def on_stored(suggestions: Iterable[Suggestion], folder: str | Path) -> list[Suggestion]:
    """Return suggestions whose sizes and boxes are upright as those on stored pixels, for a tool that shows these."""
    stored = []
    for one in suggestions:
        (height, width), boxes = on_stored_pixels(path_inside(Path(folder), one.path, "suggestions"), one.boxes)
        stored.append(replace(one, size=(width, height), boxes=boxes.astype(np.float32)))
    return stored


def _frames(folder: str | Path, paths: list[str], orientation: str) -> Frames:
    return read_frames([str(path_inside(Path(folder), path, "paths")) for path in paths], orientation)


def _sizes(paths: list[str], frames: Frames) -> dict[str, tuple[int, int]]:
    return {path: (width, height) for path, (height, width) in zip(paths, frames.sizes.tolist(), strict=True)}


def _upright(one: Annotation, frames: Frames, row: int) -> Annotation:
    boxes = frames.upright(one.boxes, np.full(len(one.boxes), row))
    return replace(one, boxes=boxes.astype(np.float32))
