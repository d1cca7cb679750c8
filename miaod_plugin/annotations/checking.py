"""What was drawn, held against the project's images and classes: every format's boxes pass through here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.detection_data import DetectionData, make_targets
from ..data.orientation import UPRIGHT, frames_of
from ..data.validation import BoxTable, Described, check_class_names, group_by_image, usable_boxes
from ..data.writing import check_writable
from ..errors import DataError, shown
from .base import Annotation, Suggestion

MOST_BYTES = 1 << 28  # of a file that is read; Label Studio takes some 650 for a box, so 20,000 images with 20 each
UNUSABLE = "unusable"  # how images of no use are marked where a tool can mark images
_MEND = "mend it in the labelling tool and export again"


class TurnedImage(DataError):
    """An image has the width and height of the other orientation: it was annotated as its EXIF tag turns it, or not."""


@dataclass
class Drawn:
    """What one annotator did to one image, as it stands in a file and before it is checked.

    - ``where``: file and object, for messages;
    - ``path``: of the image, see `ProjectImages.find`;
    - ``boxes``: ``x1, y1, x2, y2`` in pixels, NaN where the file has no number;
    - ``names``: the class of each;
    - ``fields``: each box as the file has it, for messages.
    """

    where: str
    path: str
    state: str = "annotated"
    boxes: list[Sequence[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    annotator: str | None = None
    time: str | None = None

    def add(self, box: Sequence[float], name: object, as_it_stands: str) -> None:
        self.boxes.append(box)
        self.names.append(name)
        self.fields.append(as_it_stands)


def check_size(where: str, path: str, told: Sequence[float], sizes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse an image whose `told` width and height are others than the project's; NaN and 0 tell nothing."""
    (width, height), (own_width, own_height) = told, sizes[path]
    if not (0 < width < np.inf and 0 < height < np.inf) or (width, height) == (own_width, own_height):
        return
    problem = f"{where}: is {width:.10g} x {height:.10g}, but {path} is {own_width} x {own_height}"
    if (height, width) == (own_width, own_height):
        raise TurnedImage(f"{problem}: one of them is turned as EXIF tells; read it with the other orientation")
    raise DataError(f"{problem}; give the export of these images")


def checked(drawn: list[Drawn], classes: Sequence[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
    """Return what was drawn as annotations.

    Raises
    ------
    DataError
        For an image that an annotator annotated twice, an unknown class, or a box that is not finite, has no area or
        leaves its image by more than what a file's rounding makes of half a pixel.
    """
    classes = check_class_names(classes, "classes")
    seen = {}
    for one in drawn:
        if (key := (one.path, one.annotator)) in seen:
            by = "" if one.annotator is None else f" by {shown(one.annotator)}"
            raise DataError(f"{one.where}: {one.path} is annotated again{by}, after {seen[key]}; keep one of them")
        seen[key] = one.where
    rows = [(image, k) for image, one in enumerate(drawn) for k in range(len(one.boxes))]
    labels = {name: label for label, name in enumerate(classes)}
    boxes = np.array([drawn[image].boxes[k] for image, k in rows], dtype=np.float64).reshape(-1, 4)
    table = BoxTable(
        boxes,
        labels=np.array([_label(labels, drawn[image].names[k]) for image, k in rows], dtype=np.int64),
        images=np.array([image for image, _ in rows], dtype=np.int64),
        empty=(boxes[:, 2:] <= boxes[:, :2]).any(axis=1),
    )

    def describe(row: int) -> Described:
        image, k = rows[row]
        one = drawn[image]
        return Described(f"{one.where}, box {k + 1}", one.fields[k], one.names[k], one.path, mend=_MEND)

    limits = np.array([sizes[one.path][::-1] for one in drawn], dtype=np.int64).reshape(-1, 2)
    frames = frames_of(limits, np.ones(len(drawn), dtype=np.int64), UPRIGHT)
    every = np.ones(len(drawn), dtype=bool)
    keep, boxes, _ = usable_boxes(table, frames, every, classes, describe, "raise")
    targets = group_by_image(len(drawn), table.images[keep], {"boxes": boxes, "labels": table.labels[keep]})
    return [
        Annotation(one.path, one.state, target["boxes"], target["labels"], one.annotator, one.time)
        for one, target in zip(drawn, targets, strict=True)
    ]


def _label(labels: dict[str, int], name: object) -> int:
    return labels.get(name, -1) if isinstance(name, str) else -1


def check_suggestions(suggestions: list[Suggestion], classes: Sequence[str], ids: Sequence[str]) -> None:
    """Raise a DataError unless all can be written under these `ids`: one file's name for each image, one line each."""
    first: dict[str, str] = {}
    for one, name in zip(suggestions, ids, strict=True):
        if (other := first.setdefault(name, one.path)) != one.path:
            raise DataError(f"{shown(other)} and {shown(one.path)} would share a file; rename one of them")
    targets = make_targets({"boxes": one.boxes, "labels": one.labels} for one in suggestions)
    paths, ids = np.array([one.path for one in suggestions], dtype=str), np.array(ids, dtype=str)
    check_writable(DetectionData(paths, targets, tuple(classes), ids, "suggestions"))
