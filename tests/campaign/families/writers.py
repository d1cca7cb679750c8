"""Writers: strange ids, classes and targets, and folders in which something lies."""

from pathlib import Path
from random import Random

import numpy as np
from cases import Case
from damage import NASTY
from data_files import save_image

from miaod_plugin.data import DetectionData, load_coco, load_voc, make_targets, write_coco, write_voc

TEXTS = tuple(value for value in NASTY if isinstance(value, str) and len(value) < 1000)
IDS = (
    *TEXTS,
    "0",
    "0.jpg",
    "sub/0",
    "a b",
    " a",
    "a ",
    "a 1",
    "CON",
    "-1",
    "a\\b",
    "a.",
    "#1",
    "%2e%2e/x",
    "VOC2007/1",
    "A",
    "/",
)
STRANGE = {
    "boxes": (
        *NASTY,
        np.zeros((0, 4)),
        np.zeros((2, 5)),
        np.array([[3, 3, 3.5, 3.5]]),
        np.array([["a"] * 4]),
        np.ones((2, 4)),
    ),
    "labels": (
        *NASTY,
        np.array([0.5, 1]),
        np.array([0, 7]),
        np.array([True, False]),
        np.array(["a", "b"]),
        np.zeros((2, 1)),
    ),
    "difficult": (*NASTY, np.array([1, 0]), np.array([True]), np.array(["x", ""])),
    "iscrowd": (*NASTY, np.array([1, 0]), np.array([2, 2])),
}


class Family:
    def __init__(self, folder: Path):
        pixels = save_image(folder / "a.jpg"), save_image(folder / "b.png")
        self.paths = np.array([str(folder / "a.jpg"), str(folder / "b.png")])
        self.arrays = np.stack(pixels)
        for write in (write_voc, write_coco):  # what is good comes back; libraries that load at first use are loaded
            self.folder = folder / write.__name__
            self._write(write, self._parts(self.arrays), {})

    def _parts(self, X: np.ndarray) -> dict:
        target = {"boxes": np.array([[1, 2, 9, 9], [3.25, 4, 20, 21]], dtype=np.float32), "labels": np.array([0, 1])}
        empty = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
        return {"X": X, "y": [target, empty], "classes": ("cat", "dog"), "ids": ["a", "b"], "split": "train"}

    def case(self, rng: Random, folder: Path) -> Case:
        self.folder = folder / "data"
        parts = self._parts(rng.choice((self.paths, self.arrays)))
        kind = rng.choice(("ids", "ids", "classes", "split", "target", "target", "images", "in the way", "in the way"))
        write = rng.choice((write_voc, write_coco))
        names = (str(folder), "y[", kind)
        if kind == "ids":
            parts["ids"][rng.randrange(2)] = rng.choice(IDS)
            names += ("image", "id")
        elif kind == "classes":
            parts["classes"] = rng.choice((("cat", rng.choice(IDS)), ("cat",), (), ("cat", "cat"), ("cat", 5)))
            names += ("class", "y[0]")
        elif kind == "split":
            parts["split"] = rng.choice(IDS)
        elif kind == "target":
            key = rng.choice(list(STRANGE))
            parts["y"][0][key] = rng.choice(STRANGE[key])
            if rng.random() < 0.2:
                parts["y"][1] = rng.choice((None, *NASTY))
            names += ("image", "target")
        elif kind == "images":
            parts["X"] = np.array([self.paths[0], rng.choice(("nowhere.jpg", str(folder), "", "../outside.txt"))])
            names += ("nowhere.jpg", "outside.txt", "image")
        what = (
            self._in_the_way(rng, folder) if kind == "in the way" else f"{parts[kind if kind in parts else 'y']!r:.150}"
        )
        before = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        return Case(f"{write.__name__} {kind}: {what}", lambda: self._write(write, parts, before), names)

    def _write(self, write, parts: dict, before: dict[Path, bytes]) -> None:
        data = DetectionData(**parts | {"y": make_targets(parts["y"]), "ids": np.array(parts["ids"], dtype=str)})
        write(data, self.folder)
        assert all(path.read_bytes() == content for path, content in before.items()), "a file was replaced"
        if write is write_voc:
            back = load_voc(self.folder, data.split, classes=data.classes)
        else:
            pictures = self.folder / "images" / data.split
            back = load_coco(self.folder / f"instances_{data.split}.json", pictures, classes=data.classes)
        assert list(back.ids) == list(data.ids) and back.classes == data.classes and len(back.X) == len(data.X)
        for target, expected in zip(back.y, data.y, strict=True):
            assert np.allclose(target["boxes"], expected["boxes"]) and np.array_equal(
                target["labels"], expected["labels"]
            )

    def _in_the_way(self, rng: Random, folder: Path) -> str:
        places = ("", "JPEGImages", "JPEGImages/a.jpg", "Annotations/a.xml", "ImageSets/Main/train.txt", "images")
        place = rng.choice((*places, "images/train/a.png", "instances_train.json", "Annotations", "ImageSets"))
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        # The folder that a person names may be a link; what lies in it may not lead out.
        kind = rng.choice(("file", "folder", *(("link out", "link to a file", "dangling") if place else ())))
        if kind == "file":
            path.write_text("mine")
        elif kind == "folder":
            path.mkdir()
        else:
            outside = (
                folder.parent / {"link out": "outside", "link to a file": "outside.txt", "dangling": "nowhere"}[kind]
            )
            path.symlink_to(outside)
        return f"{place} is a {kind}"
