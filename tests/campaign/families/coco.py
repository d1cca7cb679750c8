"""Data sets in the COCO format: the JSON as text, as bytes and as a tree; images; arguments."""

import json
import shutil
from pathlib import Path
from random import Random

from cases import Case
from damage import NASTY, damaged_bytes, damaged_tree
from data_files import save_coco
from sane import same_data, sane_data

from miaod_plugin.data import load_coco

ANNOTATIONS = [
    {
        "image_id": 10,
        "category_id": 7,
        "bbox": [1, 2, 10, 12.5],
        "area": 125,
        "iscrowd": 0,
        "segmentation": [[1, 2, 3]],
    },
    {"image_id": 10, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
    {"image_id": 11, "category_id": 3, "bbox": [5, 5, 5, 5]},
]
ARGUMENTS = {
    "classes": (*NASTY, ("cat", "dog"), ("dog",), "cat", ("cat", "cat"), ("Dog",), (1, 2)),
    "on_error": (*NASTY, "skip", "Skip"),
    "split": (*NASTY, "train"),
}


class Family:
    def __init__(self, folder: Path):
        self.folder = folder / "good"
        file, images = save_coco(self.folder, ANNOTATIONS, images=("b.jpg", "sub/a.jpg"))
        self.text, self.good = file.read_bytes(), load_coco(file, images)

    def case(self, rng: Random, folder: Path) -> Case:
        root = folder / "root"
        shutil.copytree(self.folder, root)
        file, images = root / "instances_val.json", root / "images"
        kind = rng.choice(("bytes", "bytes", "tree", "tree", "tree", "text", "same", "layout", "argument"))
        arguments, same, names = {}, False, (file.name, str(images))
        if kind == "bytes":
            content, what = damaged_bytes(rng, self.text)
            file.write_bytes(content)
        elif kind == "tree":
            tree, what = damaged_tree(rng, json.loads(self.text))
            file.write_text(json.dumps(tree))
        elif kind == "text":
            what = self._strange_text(rng, file)
        elif kind == "same":
            what, same = self._rewrite(rng, file), True
        elif kind == "layout":
            what = self._damage_layout(rng, rng.choice((file, images, images / "b.jpg", images / "sub")))
        else:
            key = rng.choice(list(ARGUMENTS))
            arguments[key] = rng.choice(ARGUMENTS[key])
            what, names = f"{key}={arguments[key]!r:.60}", (key, *names)
        if rng.random() < 0.2 and not same:
            arguments["on_error"] = arguments.get("on_error", "skip")
        return Case(f"{kind}: {what}", lambda: self._load(file, images, arguments, same), names)

    def _load(self, file: Path, images: Path, arguments: dict, same: bool) -> None:
        data = load_coco(file, images, **arguments)
        sane_data(data, images)
        if same:
            same_data(data, self.good)

    def _strange_text(self, rng: Random, file: Path) -> str:
        what = rng.choice(
            ("deep lists", "deep objects", "long number", "constants", "twice", "coding", "lines", "scalar")
        )
        text = self.text.decode()
        file.write_bytes(
            {
                "deep lists": b"[" * 100_000,
                "deep objects": b'{"images":' * 50_000,
                "long number": text.replace("10,", "1" * 10_000 + ",", 1).encode(),
                "constants": text.replace("[1, 2,", "[NaN, -Infinity,").encode(),
                "twice": text.replace('{"images"', '{"images": [], "images"').encode(),
                "coding": text.encode(rng.choice(("utf-16", "utf-32", "utf-16-le"))),
                "lines": (text + "\n" + text).encode(),
                "scalar": rng.choice((b"null", b"7", b'"x"', b"", b"[]", b"{}")),
            }[what]
        )
        return what

    def _rewrite(self, rng: Random, file: Path) -> str:
        """Write the same data in other words."""
        tree = json.loads(self.text)
        what = rng.choice(("indent", "more keys", "order of keys", "floats", "ascii", "annotations shuffled"))
        if what == "more keys":
            tree |= {"info": {"year": None}, "licenses": [[]]}
            tree["images"][0]["coco_url"] = 7
        elif what == "order of keys":
            tree = {key: [dict(reversed(entry.items())) for entry in tree[key]] for key in reversed(tree)}
        elif what == "floats":
            tree["annotations"][1]["bbox"] = [0.0, -0.3, 40.2, 30.3]  # sticks out by less than half a pixel
        elif what == "annotations shuffled":
            tree["annotations"] = [tree["annotations"][k] for k in (2, 0, 1)]
        file.write_text(json.dumps(tree, indent=3 if what == "indent" else None, ensure_ascii=what != "ascii"))
        return what

    def _damage_layout(self, rng: Random, victim: Path) -> str:
        kind = rng.choice(("remove", "folder", "file", "link out", "dangling", "loop"))
        shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
        if kind == "folder":
            victim.mkdir()
        elif kind == "file":
            victim.write_text("a\n")
        elif kind == "link out":
            outside = next(parent for parent in victim.parents if parent.name == "root").parent.parent
            victim.symlink_to(outside / rng.choice(("outside", "outside.txt", "outside/file.txt")))
        elif kind == "dangling":
            victim.symlink_to(victim.parent / "nowhere")
        elif kind == "loop":
            victim.symlink_to(victim)
        return f"{kind} {victim.name}"
