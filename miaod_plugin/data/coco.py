"""COCO JSON: one ``instances_*.json`` per split beside a folder of images."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError, did_you_mean, shown
from .collector import no_collection
from .detection_data import DetectionData
from .images import read_frames
from .orientation import STORED, check_orientation
from .parsing import number_of, read_json
from .paths import path_inside, require_folder
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

LAYOUT = "an annotations file (instances_SPLIT.json) and the folder of the images it names"


@no_collection()
def load_coco(
    annotations: str | Path,
    images: str | Path,
    classes: Sequence[str] | None = None,
    on_error: str = "raise",
    split: str | None = None,
    orientation: str | None = None,
) -> DetectionData:
    """Load one split of a data set in the COCO format.

    Parameters
    ----------
    annotations : path
        The JSON file.
    images : path
        The folder that each ``file_name`` is relative to.
    classes : sequence of str, optional
        Class names in label order; by default the categories of the file, sorted by their id. An annotation of a
        category that is not among them counts as one of an unknown class.
    on_error : {"raise", "skip"}
        What to do with an annotation that is not usable: raise, or drop that box, log it and list it in `skipped`. An
        image whose ``height`` and ``width`` are others than the file's is left out as a whole.
    split : str, optional
        Name of the split; by default the file's name without ``instances_`` and ``.json``.
    orientation : {"stored", "upright"}, optional
        What the annotations of photographs that are turned by their EXIF orientation count on; see `load_voc`.

    Returns
    -------
    data : DetectionData
        In the order of the file's ``images``, those without a box included; targets have ``boxes``, ``labels`` and
        ``iscrowd``. `category_ids` leads from labels back to the file. Ids are the file names without suffix, or with
        it if they would not be unique. Segmentations are not read.

    Raises
    ------
    DataError
        If a file is missing or malformed, an image is listed twice or leaves the folder, or an annotation is not
        usable: unknown class or image, numbers missing, no area, outside its image (true size, from its header), or
        for an image of another size.
    """
    check_on_error(on_error)
    if orientation is not None:
        check_orientation(orientation)
    file, folder = Path(annotations), Path(images)
    require_folder(folder, LAYOUT)
    content = read_coco_lists(file)
    names, rows = read_coco_images(content["images"], file)
    paths = [str(path_inside(folder, name, file)) for name in names]
    classes, category_ids = read_coco_categories(content["categories"], classes, file)
    frames = read_frames(paths, orientation or STORED)
    told = np.array([[number_of(entry.get(side)) for side in ("height", "width")] for entry in content["images"]])
    if orientation is None:
        frames = as_told(frames, told, file)
    usable, left_out = usable_images(frames, told, lambda k: f"{file}: images[{k}] ({shown(names[k])})", on_error)
    found = content["annotations"]
    table = _box_table(found, rows, category_ids)
    category_names = {category["id"]: category["name"] for category in content["categories"]}

    def describe(k: int) -> Described:
        return _described(found[k], k, category_names, file)

    keep, boxes, skipped = usable_boxes(table, frames, usable, classes, describe, on_error)
    iscrowd = np.array([bool(entry.get("iscrowd")) for entry in found], dtype=bool)[keep]
    columns = {"boxes": boxes, "labels": table.labels[keep], "iscrowd": iscrowd}
    y = group_by_image(len(paths), table.images[keep], columns)
    split = split if split is not None else file.stem.removeprefix("instances_")
    ids = np.array(ids_of(names), dtype=str)
    data = DetectionData(np.array(paths), y, classes, ids, split, category_ids, left_out + skipped)
    return data.subset(usable)


def _described(entry: dict, number: int, category_names: dict, file: Path) -> Described:
    """Say which annotation it is, for a message."""
    known = lookup(category_names, entry.get("category_id"))
    category = known if known != -1 else f"category_id {shown(entry.get('category_id'))}"
    image = f"image_id {shown(entry.get('image_id'))}"
    where = f"{file}: annotation {shown(entry.get('id', number))} ({image}, {category[:80]})"
    return Described(where, f"bbox {shown(entry.get('bbox'))}", category, image)


def read_coco_lists(file: Path, most_bytes: int | None = None) -> dict[str, list[dict]]:
    """Return the three lists of the file, each a list of objects."""
    content, lists = read_json(file, LAYOUT, most_bytes), {}
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{file}: has no list {key!r}; expected 'images', 'annotations' and 'categories'")
        for k, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise DataError(f"{file}: {key}[{k}] is {shown(entry)}, not an object; fix or remove it")
        lists[key] = entries
    return lists


def read_coco_images(entries: list[dict], file: Path) -> tuple[list[str], dict[int, int]]:
    """Return the file names in order, and the row of each image id."""
    names, rows, seen = [], {}, set()
    for k, entry in enumerate(entries):
        key, name = entry.get("id"), entry.get("file_name")
        if not _is_id(key) or not isinstance(name, str):
            raise DataError(
                f"{file}: images[{k}] needs an 'id' and a 'file_name', but has {shown(key)} and {shown(name)}"
            )
        for field, value, known in (("id", key, rows), ("file_name", name, seen)):
            if value in known:
                raise DataError(
                    f"{file}: images[{k}] has the {field} {shown(value)} of an earlier image; list each once"
                )
        rows[key] = k
        seen.add(name)
        names.append(name)
    if not names:
        raise DataError(f"{file}: its 'images' list is empty; expected at least one image")
    return names, rows


def read_coco_categories(entries: list[dict], classes, file: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the class names and the category id of each, in label order."""
    ids, seen = {}, set()
    for k, entry in enumerate(entries):
        key, name = entry.get("id"), entry.get("name")
        if not _is_id(key) or isinstance(key, str) or not isinstance(name, str):
            raise DataError(
                f"{file}: categories[{k}] needs an integer 'id' and a 'name', but has {shown(key)} and {shown(name)}"
            )
        if name in ids or key in seen:
            raise DataError(
                f"{file}: categories[{k}] repeats the id {shown(key)} or the name {shown(name)}; list each once"
            )
        ids[name] = key
        seen.add(key)
    names = check_class_names(classes if classes is not None else sorted(ids, key=ids.get), str(file))
    for name in names:
        if name not in ids:
            raise DataError(f"{file}: has no category for class {shown(name)}{did_you_mean(name, ids)}")
    return names, tuple(ids[name] for name in names)


def ids_of(names: list[str]) -> list[str]:
    """Return an id for each file name: the name without its suffix, where that is unique."""
    ids = [os.path.splitext(name)[0] for name in names]
    return ids if len(set(ids)) == len(ids) else names


def _box_table(entries: list[dict], rows: dict[int, int], category_ids: tuple[int, ...]) -> BoxTable:
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    raw = np.array([four_numbers(entry.get("bbox")) for entry in entries], dtype=np.float64).reshape(-1, 4)
    corner, size = raw[:, :2], raw[:, 2:]
    return BoxTable(
        boxes=np.concatenate([corner, corner + size], axis=1),
        labels=np.array([lookup(labels, entry.get("category_id")) for entry in entries], dtype=np.int64),
        images=np.array([lookup(rows, entry.get("image_id")) for entry in entries], dtype=np.int64),
        empty=(size <= 0).any(axis=1),
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def lookup(table: dict, key: object) -> int:
    """Return what is at an id, -1 where there is nothing or `key` is none."""
    return table.get(key, -1) if _is_id(key) else -1


def four_numbers(bbox: object) -> list[float]:
    """Return the four numbers of a box, NaN where there are none."""
    return [number_of(value) for value in bbox] if isinstance(bbox, list) and len(bbox) == 4 else [float("nan")] * 4
