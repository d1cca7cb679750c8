"""Datumaro, which CVAT reads and writes files with: it finds our boxes in our files, and we find its boxes in its own.

It is in an extra of its own, ``formats-test``: it takes 440 MB with what it needs, an older Pillow and an older pandas.
"""

from pathlib import Path

import numpy as np
import pytest
from annotated_project import CLASSES, SIZES, SUGGESTIONS, exported, make, same
from PIL import Image

datumaro = pytest.importorskip("datumaro")

# Of each format: our file and the folder of images in a data set's folder, and Datumaro's name for it.
LAYOUTS = {
    "cvat": ("annotations.xml", "images", "cvat"),
    "coco": ("annotations/instances_default.json", "images/default", "coco_instances"),
    "voc": ("", "JPEGImages", "voc_detection"),
    "yolo": ("", "images", "yolo"),
}
TOLERANCE = 0.011  # pixels: Datumaro keeps two decimals
every_layout = pytest.mark.parametrize("name", LAYOUTS)


def save_images(folder: Path) -> None:
    for path, size in SIZES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(folder / path)


def corners(annotation) -> list[float]:
    x, y, width, height = annotation.get_bbox()
    return [x, y, x + width, y + height]


@every_layout
def test_datumaro_finds_our_boxes_in_our_files(tmp_path, name):
    file, images, kind = LAYOUTS[name]
    exported(name, tmp_path / "set" / file)
    save_images(tmp_path / "set" / images)
    found = datumaro.Dataset.import_from(str(tmp_path / "set"), kind)
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
    items = {Path(item.id).name: item for item in found}  # it leaves folders of YOLO out
    assert len(items) == len(found) == len(SUGGESTIONS)
    for one in SUGGESTIONS:
        item = items[Path(one.path).stem]
        boxes = [(names[box.label], corners(box)) for box in item.annotations if box.type.name == "bbox"]
        wanted = [(CLASSES[label], box) for label, box in zip(one.labels, one.boxes.tolist(), strict=True)]
        assert sorted(name for name, _ in boxes) == sorted(name for name, _ in wanted)
        for (_, box), (_, expected) in zip(sorted(boxes), sorted(wanted), strict=True):
            np.testing.assert_allclose(box, expected, atol=TOLERANCE)


@every_layout
def test_we_find_datumaros_boxes_in_its_files(tmp_path, name):
    save_images(tmp_path / "photographs")
    items = [
        datumaro.DatasetItem(
            id=str(Path(one.path).with_suffix("")),
            subset="val" if name == "yolo" and one is SUGGESTIONS[0] else "train",  # Ultralytics must have both
            media=datumaro.Image.from_file(path=str(tmp_path / "photographs" / one.path)),
            annotations=[
                datumaro.Bbox(x1, y1, x2 - x1, y2 - y1, label=int(label), id=k, group=k)
                for k, ((x1, y1, x2, y2), label) in enumerate(zip(one.boxes.tolist(), one.labels, strict=True), start=1)
            ],
        )
        for one in SUGGESTIONS
    ]
    kind = "yolo_ultralytics" if name == "yolo" else LAYOUTS[name][2]
    datumaro.Dataset.from_iterable(items, categories=CLASSES).export(str(tmp_path / "set"), kind, save_media=True)
    folder = tmp_path / "set"
    source = {"cvat": folder / "train.xml", "coco": folder / "annotations/instances_train.json"}.get(name, folder)
    found = make(name).read(source, CLASSES, SIZES)
    same(found, SUGGESTIONS, pixels=TOLERANCE)
