"""Exports of labelling tools: bytes, trees, values, file names and layouts of every format."""

import json
import shutil
from pathlib import Path
from random import Random

from annotated_project import CLASSES, FORMATS, SIZES, SUGGESTIONS, exported, make, same
from cases import Case
from damage import NASTY, damaged_bytes, damaged_tree
from sane import sane_annotations

from miaod_plugin.annotations import agreed

FOLDERS = ("voc", "yolo")
TEXTS = (
    *("", " ", "0", "-1", "1e400", "nan", "inf", "1920", "٣", "1_0", "../e.jpg", "/etc/passwd", "C:\\e.jpg", "cat"),
    *(
        "e.jpg",
        "1a2b3c4d-e.jpg",
        "\x1b[31m",
        "\ud800",
        "\u202e",
        "x" * 10_000,
        "&lol;",
        "&#x1b;",
        "é",
        "https://[",
        "s3://",
    ),
)
# What every export of a kind has in it, to be replaced by something else.
VALUES = {
    "cvat": ("1920", "3.25", "cat", "e.jpg", "box", "image", "rectangle"),
    "voc": ("1920", "3.25", "cat", "e.jpg", "xmin", "object", "filename"),
    "yolo": ("0.5", "cat", "names", "0", "1"),
}


class Family:
    def __init__(self, folder: Path):
        self.good = {name: exported(name, folder / name / "export") for name in FORMATS}

    def case(self, rng: Random, folder: Path) -> Case:
        name = rng.choice(FORMATS)
        source, good = folder / "export", self.good[name]
        shutil.copytree(good, source) if good.is_dir() else shutil.copyfile(good, source)
        files = (
            sorted(file for file in source.rglob("*") if file.is_file() and file.stat().st_size)
            if name in FOLDERS
            else [source]
        )
        file = rng.choice(files)
        kind = rng.choice(("bytes", "bytes", "value", "value", "layout", "project", "same"))
        sizes, accepted = SIZES, kind == "same"
        if kind == "bytes":
            content, what = damaged_bytes(rng, file.read_bytes())
            file.write_bytes(content)
        elif kind == "value":
            what = self._damage_value(rng, name, file)
        elif kind == "layout":
            what = self._damage_layout(rng, file, folder)
        elif kind == "project":
            what = rng.choice(("other names", "other sizes", "no images", "nested", "many"))
            sizes = {
                "other names": {f"x/{path}.png": size for path, size in SIZES.items()},
                "other sizes": {path: (9, 5) for path in SIZES},
                "no images": {},
                "nested": {f"{rng.choice('ab')}/{path}": size for path, size in SIZES.items()},
                "many": SIZES | {f"{k}/e.jpg": (1920, 1080) for k in range(50_000)},
            }[what]
        else:
            what = "nothing"
        return Case(f"{name}, {kind}: {what}", lambda: self._read(name, source, sizes, accepted), (str(source),))

    def _read(self, name: str, source: Path, sizes: dict, accepted: bool) -> None:
        found = make(name).read(source, CLASSES, sizes)
        sane_annotations(found, sizes, len(CLASSES))
        sane_annotations(agreed(found, CLASSES), sizes, len(CLASSES))
        if accepted:
            same(found, SUGGESTIONS)

    def _damage_value(self, rng: Random, name: str, file: Path) -> str:
        if name not in VALUES:
            nasty = (*NASTY, *TEXTS, 360, 12.5)
            tree, what = damaged_tree(rng, json.loads(file.read_text()), nasty)
            file.write_text(json.dumps(tree))
            return what
        text, new = file.read_text(), rng.choice(TEXTS)
        old = rng.choice([value for value in VALUES[name] if value in text] or [text[:1] or " "])
        head = rng.choice(("", "", "", '<!DOCTYPE a [<!ENTITY lol "x">]>', '<?xml version="1.0" encoding="utf-16"?>'))
        text = head + text.replace(old, new, rng.choice((1, -1)))
        file.write_bytes(text.encode(errors="surrogatepass"))
        return f"{file.name}: {old!r} -> {new[:40]!r} {head}"

    def _damage_layout(self, rng: Random, file: Path, folder: Path) -> str:
        victim = rng.choice((file, file.parent)) if file.name != "export" else file
        kind = rng.choice(("remove", "folder", "empty", "link out", "dangling", "loop", "double", "deep"))
        if kind == "double":
            if victim.is_dir():
                shutil.copytree(victim, victim / "again")
            else:
                shutil.copyfile(victim, victim.with_name(f"again{victim.suffix}"))
            return f"{kind} {victim.name}"
        if kind == "deep":
            texts = {"": "[" * 100_000, ".xml": "<a>" * 50_000, ".yaml": "[" * 20_000, ".txt": "0 " * 99_999}
            file.write_text(texts[file.suffix])
            return f"{kind} {file.name}"
        shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
        if kind == "folder":
            victim.mkdir()
        elif kind == "empty":
            victim.touch()
        elif kind == "link out":
            victim.symlink_to(folder.parent / rng.choice(("outside", "outside.txt", "outside/file.txt")))
        elif kind == "dangling":
            victim.symlink_to(victim.parent / "nowhere")
        elif kind == "loop":
            victim.symlink_to(victim)
        return f"{kind} {victim.name}"
