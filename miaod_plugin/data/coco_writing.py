"""Writing the COCO format."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, shown
from ..files import write_text
from .coco import ids_of
from .detection_data import DetectionData
from .images import store_image, stored_suffix
from .paths import path_inside
from .writing import check_writable, new_file, stored_targets


def write_coco(data: DetectionData, folder: str | Path) -> None:
    """Write a data set as ``instances_<split>.json`` and ``images/<split>/`` in `folder`.

    ``load_coco(folder / "instances_train.json", folder / "images" / "train")`` then gives the same images, ids, boxes
    and labels. In the file, boxes count on the pixels as they are stored. Images in memory become PNG, image files are
    copied. COCO has nothing like ``difficult``: it becomes ``iscrowd``.

    Raises
    ------
    DataError
        Before anything is written: if a file would be replaced, two ids would share a file, an image has no target, or
        an id cannot name a file.
    """
    folder = Path(folder)
    check_writable(data)
    file = new_file(folder, f"instances_{data.split}.json", "split")
    pictures = path_inside(path_inside(folder, "images", "folder"), str(data.split), "split")
    names = [f"{name}{stored_suffix(x)}" for x, name in zip(data.X, data.ids, strict=True)]
    for name, back, given in zip(names, ids_of(names), map(str, data.ids), strict=True):
        if back != given:
            raise DataError(f"ids: {shown(given)} would be read back as {shown(back)}; give ids without dots")
        new_file(pictures, name, "ids")
    images = [
        CocoImage(name, size, boxes, labels, {}, [{"iscrowd": int(ignore)} for ignore in ignored])
        for name, (size, boxes, labels, ignored) in zip(names, stored_targets(data), strict=True)
    ]
    content = coco_content(images, data.classes, data.category_ids)
    for x, name in zip(data.X, map(str, data.ids), strict=True):
        store_image(x, pictures / name)
    write_text(file, json.dumps(content))


class CocoImage(NamedTuple):
    """An image as COCO writes it, with what is to stand in the entries of it and of its boxes besides."""

    name: str
    size: tuple[int, int]  # height, width
    boxes: np.ndarray
    labels: np.ndarray
    besides: dict
    besides_boxes: list[dict]


def coco_content(images: Iterable[CocoImage], classes: Sequence[str], category_ids: Sequence[int] | None) -> dict:
    """Return the three lists of a COCO file; without `category_ids` the classes are numbered from 1."""
    category_ids = category_ids or range(1, len(classes) + 1)
    entries, annotations = [], []
    for number, image in enumerate(images, start=1):
        height, width = image.size
        entries.append({"id": number, "file_name": image.name, "width": width, "height": height, **image.besides})
        rows = zip(image.boxes.tolist(), image.labels, image.besides_boxes, strict=True)
        for (x1, y1, x2, y2), label, besides in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    **besides,
                }
            )
    categories = [{"id": key, "name": name} for key, name in zip(category_ids, classes, strict=True)]
    return {"images": entries, "annotations": annotations, "categories": categories}
