"""Small real data sets on disk for the loader tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def save_image(path: Path, height: int = 30, width: int = 40, **options) -> np.ndarray:
    """Write a random image and return its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def save_voc(root: Path, images: dict[str, list[tuple]], split: str = "trainval", suffix: str = ".jpg") -> Path:
    """Write images of 40 x 30 pixels with objects ``(name, (xmin, ymin, xmax, ymax), difficult)``."""
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (root / "Annotations").mkdir(exist_ok=True)
    for name, objects in images.items():
        save_image(root / "JPEGImages" / f"{name}{suffix}")
        text = "".join(OBJECT.format(name=cls, box=box, difficult=difficult) for cls, box, difficult in objects)
        # The <filename> is wrong on purpose: it may not be believed.
        head = "<filename>elsewhere.jpg</filename><size><width>40</width><height>30</height></size>"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{head}{text}</annotation>")
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
    return root


def save_coco(root: Path, annotations: list[dict], images=("b.jpg", "a.jpg"), categories=((7, "cat"), (3, "dog"))):
    """Write images of 40 x 30 pixels (ids 10, 11, ...) and their JSON; return the arguments of `load_coco`."""
    for name in images:
        save_image(root / "images" / name)
    content = {
        "images": [{"id": 10 + k, "file_name": name, "width": 40, "height": 30} for k, name in enumerate(images)],
        "annotations": [{"id": k, **annotation} for k, annotation in enumerate(annotations)],
        "categories": [{"id": key, "name": name} for key, name in categories],
    }
    (root / "instances_val.json").write_text(json.dumps(content))
    return root / "instances_val.json", root / "images"
