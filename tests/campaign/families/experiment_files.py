"""Experiment files: YAML as bytes, as text and as a tree."""

import json
from pathlib import Path
from random import Random

import yaml
from cases import Case
from damage import NASTY, damaged_bytes, damaged_tree
from tiny_experiment import TINY

from miaod_plugin.experiments.config.schema import ExperimentConfig, load_config

VOC = {
    "kind": "voc",
    "root": "nowhere",
    "train": {"split": "trainval", "years": [2007, 2012]},
    "test": {"split": "test", "years": [2007]},
    "classes": ["cat", "dog"],
    "sizes": {"train": 16551, "test": 4952, "image": [375, 500], "boxes": 40000},
}
COCO = {
    "kind": "coco",
    "train": {"annotations": "a.json", "images": "train"},
    "test": {"annotations": "b.json", "images": "val"},
}
FAITHFUL = {"mode": "faithful", "options": {"top_k": 5}}
OTHER = {"training": "other", "strategy": "miaod", "name": "x"}
GOOD = (
    TINY,
    TINY | {"data": VOC, "budget": {"unit": "boxes"}, "full_supervision": True, "on_error": "skip"},
    TINY | {"data": COCO, "trainings": {"miaod": FAITHFUL}, "device": "cpu", "initial": "s.txt"},
    TINY | {"trainings": {"other": {"kind": "miaod", "rounds": 2}}, "arms": [OTHER]},
)
VALUES = (
    *(
        "!!int abc",
        "!!float x",
        "!!timestamp 2026-99-99",
        "2026-99-99",
        "2026-01-01",
        "!!binary ====",
        "!!python/name:os",
    ),
    *("!!python/object/apply:os.system ['true']", "!!set {a, b}", "!!omap [a: 1]", "!foreign x", "&a [*a]", "*nowhere"),
    *("1e999", "-.inf", ".nan", "0x" + "f" * 40, "1_000", "0o17", "190:20:30", "9" * 5000, "yes", "~", "<<", "? [a]"),
    *(
        "[" * 3000,
        "{a: " * 500,
        "'\\x00'",
        '"\\0"',
        '"a\\nb"',
        '"\\ud800"',
        "|\n  a\n  b",
        "x" * 100_000,
        "@",
        "`",
        "%a",
    ),
)
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
BEHIND = (
    *("name: twice", "---\nname: second", "...\n%YAML 9.9", "\t tab: x", LAUGHS, "<<: {jobs: 3}", "? {a: 1}\n: b", "]"),
    *("1: 2", "null: null", "[1, 2]: 3", "é: é", "a\x85b: c", "seeds:\n- 0\n -1", "unknown: 1", "x: &x {y: *x}"),
    "\n".join(f"key{k}: {k}" for k in range(30_000)),
)


class Family:
    def __init__(self, folder: Path):
        folder.mkdir()
        self.good = []
        for number, tree in enumerate(GOOD):
            path = folder / f"{number}.yaml"
            path.write_text(yaml.safe_dump(tree))
            self.good.append((tree, load_config(path)))

    def case(self, rng: Random, folder: Path) -> Case:
        path = folder / "experiment.yaml"
        tree, config = rng.choice(self.good)
        text = yaml.safe_dump(tree)
        kind = rng.choice(("bytes", "bytes", "tree", "tree", "tree", "value", "behind", "same", "no file"))
        same = None
        if kind == "bytes":
            content, what = damaged_bytes(rng, text.encode())
            path.write_bytes(content)
        elif kind == "tree":
            damaged, what = damaged_tree(rng, tree, NASTY + TRICKS)
            path.write_text(yaml.safe_dump(damaged))
        elif kind == "value":
            lines = text.splitlines()
            places = [k for k, line in enumerate(lines) if ": " in line]
            at, value = rng.choice(places), rng.choice(VALUES)
            lines[at] = f"{lines[at].partition(': ')[0]}: {value}"
            path.write_text("\n".join(lines))
            what = lines[at][:80]
        elif kind == "behind":
            more = rng.choice(BEHIND)
            path.write_text(f"{text}{more}\n", errors="surrogatepass")
            what = repr(more[:60])
        elif kind == "same":
            what, same = self._rewrite(rng, path, tree), config
        else:
            what = self._no_file(rng, path)
        return Case(f"{kind}: {what}", lambda: self._load(path, same), (path.name,))

    def _load(self, path: Path, same: ExperimentConfig | None) -> None:
        config = load_config(path)
        assert isinstance(config, ExperimentConfig)
        if same is not None:
            assert config.model_dump() == same.model_dump()
        # What was understood can be written down and read again.
        again = path.with_name("again.yaml")
        again.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        assert load_config(again).model_dump() == config.model_dump()

    def _rewrite(self, rng: Random, path: Path, tree: dict) -> str:
        """Write the same experiment in other words."""
        what = rng.choice(("JSON", "flow", "order", "comments", "mark", "utf-16", "line endings"))
        block, reverse = yaml.safe_dump(tree), dict(reversed(tree.items()))
        path.write_bytes(
            {
                "JSON": json.dumps(tree).encode(),
                "flow": yaml.safe_dump(tree, default_flow_style=True, width=10_000).encode(),
                "order": yaml.safe_dump(reverse, sort_keys=False).encode(),
                "comments": f"# x: y\n---\n{block}# [\n...\n".encode(),
                "mark": b"\xef\xbb\xbf" + block.encode(),
                "utf-16": block.encode("utf-16"),
                "line endings": block.replace("\n", "\r\n").encode(),
            }[what]
        )
        return what

    def _no_file(self, rng: Random, path: Path) -> str:
        what = rng.choice(("missing", "folder", "empty", "blank", "scalar", "list", "dangling"))
        if what == "folder":
            path.mkdir()
        elif what == "dangling":
            path.symlink_to("nowhere.yaml")
        elif what != "missing":
            path.write_text({"empty": "", "blank": "\n# nothing\n", "scalar": "7", "list": "- a\n- b"}[what])
        return what


# Values that are right somewhere, and special elsewhere.
TRICKS = (
    *("miaod", "supervised", "retinanet_resnet50_fpn", "torchvision:nothing", "cuda:99", "mps", "meta", "voc_area"),
    *("boxes", "seconds", "{seed}", "../{seed}.txt", "full-supervision", "a" * 200, "CON", ".hidden", "a/../b"),
    *(
        [0, 0],
        [9, 7, 4],
        [10**12],
        {"kind": "digits"},
        {"kind": "voc"},
        {"name": "retinanet_tiny", "options": {"x": 1}},
    ),
)
