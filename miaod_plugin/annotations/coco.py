"""COCO JSON, as labelling tools exchange it: one file."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..data.coco import four_numbers, lookup, read_coco_categories, read_coco_images, read_coco_lists
from ..data.coco_writing import CocoImage, coco_content
from ..data.parsing import number_of
from ..errors import DataError, shown
from ..files import write_text
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import MOST_BYTES, Drawn, check_size, check_suggestions, checked
from .project_images import ProjectImages


class Coco(AnnotationFormat):
    """COCO JSON.

    Images have their ``utility``, and boxes their ``score``, as further keys, which most tools leave out. All images
    of the file count as annotated, those without a box with nothing to find.
    """

    name = "coco"
    suffix = ".json"

    def write(self, out: Path, suggestions: list[Suggestion], classes: list[str]) -> None:
        check_suggestions(suggestions, classes, [one.path for one in suggestions])
        images = [
            CocoImage(
                one.path,
                (one.size[1], one.size[0]),
                one.boxes.astype(np.float64),
                one.labels,
                {} if one.utility is None else {"utility": one.utility},
                [{"iscrowd": 0, "score": score} for score in one.scores.tolist()],
            )
            for one in suggestions
        ]
        write_text(out, json.dumps(coco_content(images, classes, None)))

    def read(self, source: Path, classes: list[str], sizes: Mapping[str, tuple[int, int]]) -> list[Annotation]:
        content = read_coco_lists(source, MOST_BYTES)
        names, rows = read_coco_images(content["images"], source)
        named = dict(zip(*read_coco_categories(content["categories"], None, source)[::-1], strict=True))
        images, drawn = ProjectImages(sizes), []
        for k, (name, entry) in enumerate(zip(names, content["images"], strict=True)):
            where = f"{source}: images[{k}] ({name[:80]})"
            path = images.find(name, where)
            check_size(where, path, [number_of(entry.get(side)) for side in ("width", "height")], sizes)
            drawn.append(Drawn(where, path))
        for k, entry in enumerate(content["annotations"]):
            where = f"{source}: annotations[{k}]"
            row = lookup(rows, entry.get("image_id"))
            if row == -1:
                raise DataError(
                    f"{where}: image_id {shown(entry.get('image_id'))} is not among the images; fix the file"
                )
            _refuse_other_shapes(entry, where)
            key = entry.get("category_id")
            x, y, width, height = four_numbers(entry.get("bbox"))
            name = lookup(named, key)
            field = f"bbox {shown(entry.get('bbox'))}"
            drawn[row].add([x, y, x + width, y + height], f"category_id {shown(key)}" if name == -1 else name, field)
        return checked(drawn, classes, sizes)


def _refuse_other_shapes(entry: dict, where: str) -> None:
    """Raise a DataError for a crowd, and for a box that CVAT says is rotated."""
    attributes = entry.get("attributes")
    rotation = number_of(attributes.get("rotation", 0)) if isinstance(attributes, dict) else 0
    if rotation % 360 != 0:
        raise DataError(f"{where}: is rotated by {rotation:.6g} degrees; draw it upright")
    if entry.get("iscrowd"):
        raise DataError(f"{where}: is a crowd (iscrowd), not a box around one object; draw a box around each")
