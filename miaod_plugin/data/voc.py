"""PASCAL VOC layout: one XML file per image, lists of image ids per split."""

import os
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, did_you_mean, shown
from .collector import no_collection
from .detection_data import DetectionData
from .images import IMAGE_SUFFIXES, read_frames
from .orientation import STORED, check_orientation
from .parsing import number_in, read_xml, text_of
from .paths import path_inside, read_file, require_folder
from .validation import (
    BoxTable,
    Described,
    as_told,
    check_class_names,
    check_on_error,
    group_by_image,
    usable_boxes,
    usable_images,
)

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

LAYOUT = "ROOT/ImageSets/Main/SPLIT.txt, ROOT/Annotations/ID.xml, ROOT/JPEGImages/ID.jpg (with years: ROOT/VOC2007/...)"
# The files an image may be, in the order of preference.
IMAGE_FILES = (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One ``<object>`` as it stands in the file."""

    row: int  # of its image
    number: int  # in its file, from 1
    name: str
    corners: tuple[str, ...]
    difficult: bool

    @property
    def box(self) -> str:
        """The corners for a message."""
        named = zip(CORNERS, self.corners, strict=True)
        return ", ".join(f"{corner}={text[:20] or 'missing'}" for corner, text in named)


@no_collection()
def load_voc(
    root: str | Path,
    split: str = "trainval",
    years: Sequence[int | str] | None = None,
    classes: Sequence[str] | None = None,
    one_based: bool = True,
    on_error: str = "raise",
    orientation: str | None = None,
) -> DetectionData:
    """Load one split of a data set in the PASCAL VOC layout.

    Parameters
    ----------
    root : path
        The folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets``; with `years` the folder (``VOCdevkit``)
        that holds one such folder per year.
    split : str
        Name of a file in ``ImageSets/Main``, without ``.txt``. A class-specific one (``dog_train``) selects all the ids
        it lists, whatever their second column says.
    years : sequence of int or str, optional
        For example ``(2007, 2012)``, read from ``VOC2007`` and ``VOC2012`` in that order. With more than one year the
        ids read ``"VOC2007/000012"``.
    classes : sequence of str, optional
        Class names in label order. By default the sorted names found in the annotations of this split, with a warning
        if it is no training split: give it the ``classes`` of the training split, or `VOC_CLASSES`.
    one_based : bool
        Whether pixels are counted from 1 and inclusive, as in VOC: ``x1 = xmin - 1, x2 = xmax``. With False the numbers
        are taken as they are.
    on_error : {"raise", "skip"}
        What to do with an annotation that is not usable: raise, or drop that box, log it and list it in `skipped`. An
        image whose ``<size>`` is another than the file's is left out as a whole.
    orientation : {"stored", "upright"}, optional
        What the annotations of photographs that are turned by their EXIF orientation count on: the pixels as they are
        stored, or the upright image, as browsers and most annotation tools show it. By default that whose sizes the
        annotations tell; the stored pixels where they tell none, with a warning. The boxes returned lie on upright
        images in either case, as `read_image` gives them.

    Returns
    -------
    data : DetectionData
        In the order of the split file; targets have ``boxes``, ``labels`` and ``difficult``. Images are found by id,
        not by the ``<filename>`` in the XML.

    Raises
    ------
    DataError
        If a file is missing or malformed, an id is listed twice or leaves the folder, or an annotation is not usable:
        unknown class, numbers missing, no area, outside its image (whose true size is read from its header), or for
        an image of another ``<size>``.
    """
    check_on_error(on_error)
    if orientation is not None:
        check_orientation(orientation)
    root = Path(root)
    require_folder(root, LAYOUT)
    years = [years] if isinstance(years, int | str) else years
    prefixes = [f"VOC{str(year).removeprefix('VOC')}" for year in years] if years else [""]
    paths, ids, files, objects, told = _read(root, prefixes, split)
    frames = read_frames(paths, orientation or STORED)
    if orientation is None:
        frames = as_told(frames, told, root)
    usable, left_out = usable_images(frames, told, lambda row: f"{files[row]}: <size>", on_error)
    if classes is None and "train" not in split:
        warnings.warn(
            f"{root}: the classes are those of split {shown(split)} alone, whose labels may be numbered otherwise than"
            " those of the training split; pass classes=data.classes of that split",
            stacklevel=3,
        )
    classes = check_class_names(classes if classes is not None else sorted({o.name for o in objects} - {""}), str(root))
    table = _box_table(objects, classes, one_based)

    def describe(k: int) -> Described:
        return _described(objects[k], files[objects[k].row], table.boxes[k])

    keep, boxes, skipped = usable_boxes(table, frames, usable, classes, describe, on_error)
    difficult = np.array([o.difficult for o in objects], dtype=bool)[keep]
    columns = {"boxes": boxes, "labels": table.labels[keep], "difficult": difficult}
    y = group_by_image(len(ids), table.images[keep], columns)
    data = DetectionData(np.array(paths), y, classes, np.array(ids), split, skipped=left_out + skipped)
    return data.subset(usable)


def _read(
    root: Path, prefixes: list[str], split: str
) -> tuple[list[str], list[str], list[Path], list[VocObject], np.ndarray]:
    """Return of all images paths, ids, annotation files and the heights and widths they tell, and all their objects."""
    paths, ids, files, objects, told = [], [], [], [], []
    for prefix in prefixes:
        folder = root / prefix
        listed = folder / "ImageSets" / "Main" / f"{split}.txt"
        for name in _read_split(folder, split):
            file = path_inside(folder / "Annotations", f"{name}.xml", listed)
            annotation = read_xml(file, LAYOUT, "annotation")
            objects += voc_objects(annotation, len(ids))
            told.append([number_in(text_of(annotation, f"size/{side}")) for side in ("height", "width")])
            paths.append(str(_find_image(folder / "JPEGImages", name, listed)))
            ids.append(f"{prefix}/{name}" if len(prefixes) > 1 else name)
            files.append(file)
    return paths, ids, files, objects, np.array(told)


def _described(found: VocObject, file: Path, zero_based: np.ndarray) -> Described:
    """Say which object it is, for a message."""
    # Only zeros tell that the file counts from 0; elsewhere the hint would mislead.
    hint = ", or pass one_based=False if its pixels are counted from 0" if (zero_based == -1).any() else ""
    return Described(f"{file}: object {found.number} ({found.name[:80]})", found.box, found.name, "", hint)


def _read_split(folder: Path, split: str) -> list[str]:
    """Return the ids of a split file, in its order."""
    lists = folder / "ImageSets" / "Main"
    if not os.path.isdir(lists):
        years = sorted(path.name.removeprefix("VOC") for path in folder.glob("VOC*") if path.is_dir())
        mend = f"; pass years={years} to read the years it holds" if years else ""
        raise DataError(f"{lists}: no such folder; expected {LAYOUT}{mend}")
    for required in ("Annotations", "JPEGImages"):
        require_folder(folder / required, LAYOUT)
    file = path_inside(lists, f"{split}.txt", "split")
    if not os.path.exists(file):
        raise DataError(f"{file}: no such split{did_you_mean(split, [path.stem for path in lists.glob('*.txt')])}")
    try:
        lines = read_file(file, LAYOUT).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    ids = [id_of_line(line.strip()) for line in lines if line.strip()]
    seen = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{file}: image id {shown(name)} is listed twice; remove one of the lines")
        seen.add(name)
    if not ids:
        raise DataError(f"{file}: lists no image ids; expected one per line")
    return ids


def id_of_line(line: str) -> str:
    """Return the id on a line: an id may hold spaces, and class-specific lists add a column of -1, 0 or 1."""
    columns = line.rsplit(maxsplit=1)
    return columns[0] if len(columns) == 2 and columns[1] in ("-1", "0", "1") else line


def _find_image(folder: Path, name: str, listed: Path) -> Path:
    for suffix in IMAGE_FILES:
        path = path_inside(folder, name + suffix, listed)
        if os.path.isfile(path):
            return path
    raise DataError(
        f"{folder / name}.jpg: no such image (nor {', '.join(IMAGE_SUFFIXES[1:])}); add it or remove its id"
    )


def voc_objects(annotation: ET.Element, row: int) -> list[VocObject]:
    """Return the objects of the annotation of image `row`."""
    objects = []
    for number, element in enumerate(annotation.iterfind("object"), start=1):
        corners = tuple(text_of(element, f"bndbox/{corner}") for corner in CORNERS)
        objects.append(VocObject(row, number, text_of(element, "name"), corners, text_of(element, "difficult") == "1"))
    return objects


def _box_table(objects: list[VocObject], classes: tuple[str, ...], one_based: bool) -> BoxTable:
    labels = {name: label for label, name in enumerate(classes)}
    raw = np.array([[number_in(text) for text in o.corners] for o in objects], dtype=np.float64).reshape(-1, 4)
    return BoxTable(
        boxes=raw - (np.array([1, 1, 0, 0]) if one_based else 0),
        labels=np.array([labels.get(o.name, -1) for o in objects], dtype=np.int64),
        images=np.array([o.row for o in objects], dtype=np.int64),
        empty=(raw[:, 2:] <= raw[:, :2]).any(axis=1),
    )
