"""Writing the COCO format."""

import json
from pathlib import Path

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
    content = _content(data, names)
    for x, name in zip(data.X, map(str, data.ids), strict=True):
        store_image(x, pictures / name)
    write_text(file, json.dumps(content))


def _content(data: DetectionData, names: list[str]) -> dict:
    category_ids = data.category_ids or tuple(range(1, len(data.classes) + 1))
    images, annotations = [], []
    for name, ((height, width), boxes, labels, ignored) in zip(names, stored_targets(data), strict=True):
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        for (x1, y1, x2, y2), label, ignore in zip(boxes.tolist(), labels, ignored, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(ignore),
                }
            )
    categories = [{"id": key, "name": name} for key, name in zip(category_ids, data.classes, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}
