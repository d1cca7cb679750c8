"""Writing the PASCAL VOC layout."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError, shown
from ..files import atomic_path, write_text
from .detection_data import DetectionData
from .images import IMAGE_SUFFIXES, store_image, stored_suffix
from .paths import path_inside
from .voc import CORNERS, IMAGE_FILES, id_of_line
from .writing import check_writable, new_file, stored_targets

FOLDERS = ("ImageSets/Main", "Annotations", "JPEGImages")


def write_voc(data: DetectionData, folder: str | Path) -> None:
    """Write a data set in the PASCAL VOC layout, with pixels counted from 1 as in VOC.

    `load_voc` then gives the same images, ids, boxes and labels. In the files, boxes count on the pixels as they are
    stored. Several splits may share a folder if their ids differ. Images in memory become PNG, image files are copied.
    VOC has no crowds: ``iscrowd`` becomes ``difficult``.

    Raises
    ------
    DataError
        Before anything is written: if a file would be replaced, two ids would share a file, an image has no target, an
        id cannot name a file or a name cannot be read back, or a box is at most one pixel wide or high, which VOC's
        inclusive pixels cannot tell from a degenerate one.
    """
    folder, names = Path(folder), [str(name) for name in data.ids]
    check_writable(data)
    for name in data.classes:
        if name != " ".join(name.split()):
            raise DataError(f"classes: VOC cannot tell the blanks in {shown(name)} from single ones; rename the class")
    lists, texts, pictures = (path_inside(folder, name, "folder") for name in FOLDERS)
    listed = new_file(lists, f"{data.split}.txt", "split")
    files = [new_file(texts, f"{name}.xml", "ids") for name in names]
    for x, name in zip(data.X, names, strict=True):
        if stored_suffix(x).lower() not in IMAGE_SUFFIXES:
            raise DataError(f"{x}: VOC images end in {', '.join(IMAGE_SUFFIXES)}; convert the file")
        for suffix in IMAGE_FILES:
            new_file(pictures, name + suffix, "ids")
    annotations = [
        voc_annotation(*target, data.classes, name) for target, name in zip(stored_targets(data), names, strict=True)
    ]
    for x, name, file, annotation in zip(data.X, names, files, annotations, strict=True):
        image = store_image(x, pictures / name)
        annotation.find("filename").text = image.name
        with atomic_path(file) as temporary:
            ET.ElementTree(annotation).write(temporary, encoding="utf-8")
    # An id that ends like the column of a class-specific list comes back if every line has such a column.
    column = " 1" if any(id_of_line(name) != name for name in names) else ""
    write_text(listed, "".join(f"{name}{column}\n" for name in names))


def voc_annotation(
    size: tuple[int, int],
    boxes: np.ndarray,
    labels: np.ndarray,
    ignored: np.ndarray,
    classes: Sequence[str],
    name: str,
    one_based: bool = True,
) -> ET.Element:
    """Return the XML of one image of this height and width; `name` is for messages, ``<filename>`` left empty."""
    annotation = ET.Element("annotation")
    ET.SubElement(annotation, "filename")
    element = ET.SubElement(annotation, "size")
    for field, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        ET.SubElement(element, field).text = str(value)
    first = np.array([1, 1, 0, 0]) if one_based else 0
    for box, label, ignore in zip(boxes + first, labels, ignored, strict=True):
        if (box[2:] <= box[:2]).any():
            thin = (box - first).tolist()
            raise DataError(f"image {shown(name)}: box {thin} is too thin for VOC; use write_coco")
        element = ET.SubElement(annotation, "object")
        ET.SubElement(element, "name").text = classes[label]
        ET.SubElement(element, "difficult").text = "1" if ignore else "0"
        bndbox = ET.SubElement(element, "bndbox")
        for corner, value in zip(CORNERS, box.tolist(), strict=True):
            ET.SubElement(bndbox, corner).text = str(int(value)) if value.is_integer() else repr(value)
    ET.indent(annotation)
    return annotation
