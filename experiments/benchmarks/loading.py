"""How the cost of loading a data set grows with its images: PASCAL VOC's files, and COCO's JSON.

Images are hard links to a few small JPEG files, since loading reads their headers alone; the first size warms up.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from miaod_plugin.data import VOC_CLASSES, load_coco, load_voc

from .growth import Growth, growth, show

SIDE = 64  # pixels
VOC_SIZES, VOC = [1_000, 4_000], 16_551  # images, and those of trainval of 2007 and 2012
COCO_SIZES, COCO = [1_500, 6_000], 117_266  # and those of train2017 that have boxes
VOC_BOXES, COCO_BOXES = 47_223 / VOC, 860_001 / COCO  # of an image
LINKS = 10_000  # to one file; file systems take 65,000 and more


def write_images(folder: Path, names: list[str]) -> None:
    """Write images of these names."""
    folder.mkdir(parents=True)
    for k, name in enumerate(names):
        if k % LINKS == 0:
            source = folder / name
            Image.new("RGB", (SIDE, SIDE)).save(source)
        else:
            os.link(source, folder / name)


def random_boxes(n_images: int, mean: float) -> list[np.ndarray]:
    """Return boxes ``(m, 4)`` of whole pixels from 1 on for each image, as many as `mean` on average."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(mean, n_images)
    corners = rng.integers(1, SIDE // 2, (counts.sum(), 2))
    boxes = np.hstack([corners, corners + rng.integers(4, SIDE // 2, corners.shape)])
    return np.split(boxes, np.cumsum(counts)[:-1])


def write_voc(root: Path, n_images: int) -> None:
    """Write a data set in the PASCAL VOC layout, as VOC's own files are."""
    names = [f"2012_{k:06d}" for k in range(n_images)]
    write_images(root / "JPEGImages", [f"{name}.jpg" for name in names])
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(names))
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    for k, (name, boxes) in enumerate(zip(names, random_boxes(n_images, VOC_BOXES), strict=True)):
        objects = "".join(
            f"<object><name>{VOC_CLASSES[(k + x1) % 20]}</name><pose>Left</pose><truncated>0</truncated>"
            f"<difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>\n"
            for x1, y1, x2, y2 in boxes.tolist()
        )
        head = f"<annotation><folder>VOC2012</folder><filename>{name}.jpg</filename>{size}<segmented>0</segmented>"
        (root / "Annotations" / f"{name}.xml").write_text(f"{head}\n{objects}</annotation>\n")


def write_coco(root: Path, n_images: int) -> None:
    """Write a data set as COCO's instances are."""
    names = [f"{k:012d}.jpg" for k in range(n_images)]
    write_images(root / "images", names)
    annotations = []
    for k, boxes in enumerate(random_boxes(n_images, COCO_BOXES)):
        for x1, y1, x2, y2 in boxes.tolist():
            box = [x1 - 0.5, y1 - 0.25, x2 - x1 + 0.25, y2 - y1]
            about = {"iscrowd": 0, "area": box[2] * box[3], "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}
            annotations.append(
                {"id": len(annotations), "image_id": k, "category_id": x1 % 80 + 1, "bbox": box, **about}
            )
    images = [{"id": k, "file_name": name, "height": SIDE, "width": SIDE} for k, name in enumerate(names)]
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(80)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances_train.json").write_text(json.dumps(content))


def voc(folder: Path, sizes: list[int]) -> Growth:
    """Time `load_voc`."""

    def prepared(n: int) -> Callable[[], object]:
        root = folder / f"voc{n}"
        if not root.exists():
            write_voc(root, n)
        return partial(load_voc, root, classes=VOC_CLASSES)

    return growth("loading PASCAL VOC", sizes, prepared)


def coco(folder: Path, sizes: list[int]) -> Growth:
    """Time `load_coco`."""

    def prepared(n: int) -> Callable[[], object]:
        root = folder / f"coco{n}"
        if not root.exists():
            write_coco(root, n)
        return partial(load_coco, root / "instances_train.json", root / "images")

    return growth(f"loading COCO, {COCO_BOXES:.1f} boxes an image", sizes, prepared)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--large", action="store_true", help="also as many images as the data sets themselves have")
    large = parser.parse_args().large
    with TemporaryDirectory() as folder:
        show(
            [
                voc(Path(folder), VOC_SIZES + [VOC] * large),
                coco(Path(folder), COCO_SIZES + [COCO] * large),
            ]
        )


if __name__ == "__main__":
    main()
