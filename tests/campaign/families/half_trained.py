"""Files of half-trained fits: whatever happens to one, the fit ends in the same weights, or in a refusal."""

import json
from pathlib import Path
from random import Random

import torch
from cases import Case
from damage import damaged_bytes, damaged_tree
from safetensors.torch import load, save

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.data import make_digit_scenes

from .models import put_together, take_apart
from .targets import SIDE, SMALL

STEPS = {ObjectDetector: 4, MIAODDetector: 6}


class Stopped(Exception):
    pass


def stop(report: dict) -> None:
    if report["step"] == report["total"] - 2:
        raise Stopped


class Family:
    def __init__(self, folder: Path):
        folder.mkdir()
        self.data = make_digit_scenes(6, image_size=SIDE, object_size=(8, 16), n_classes=3, random_state=0)
        self.good = {}
        for cls in STEPS:
            path = folder / "fit.half"
            try:
                self._fit(cls, path, on_step=stop)
            except Stopped:
                half = path.read_bytes()
            path.unlink()
            self.good[cls] = half, self._fit(cls, path).network_.state_dict()

    def case(self, rng: Random, folder: Path) -> Case:
        path, cls = folder / "fit.half", rng.choice(list(STEPS))
        content = self.good[cls][0]
        kind = rng.choice(("bytes", "bytes", "bytes", "header", "metadata", "tensors", "other", "in the way"))
        what = ""
        if kind == "bytes":
            content, what = damaged_bytes(rng, content, (b"PK\3\4" + bytes(100),))
        elif kind == "header":
            header, rest = take_apart(content)
            header, what = damaged_tree(rng, header)
            content = put_together(header, rest)
        elif kind == "metadata":
            header, rest = take_apart(content)
            metadata = header["__metadata__"]
            name = rng.choice(sorted(metadata))
            said, what = damaged_tree(
                rng, json.loads(metadata[name]) if metadata[name][0] == "{" else {name: metadata[name]}
            )
            metadata[name] = json.dumps(said)
            content = put_together(header, rest)
        elif kind == "tensors":
            metadata, tensors = take_apart(content)[0]["__metadata__"], load(content)
            name = rng.choice(sorted(tensors))
            tensors[name] = tensors[name] + 1 if rng.random() < 0.7 else tensors[name].reshape(-1)[:0]
            content, what = save(tensors, metadata=metadata), name
        elif kind == "other":
            other = next(other for other in STEPS if other is not cls)
            content = self.good[other][0]
        path.write_bytes(content)
        if kind == "in the way":
            path.unlink()
            what = rng.choice(("folder", "dangling", "link to a folder", "link to a text"))
            if what == "folder":
                path.mkdir()
            else:
                targets = {"dangling": "nowhere", "link to a folder": "outside", "link to a text": "outside.txt"}
                path.symlink_to(folder.parent / targets[what])
        return Case(f"{cls.__name__} {kind}: {what}", lambda: self._go_on(cls, path), (path.name,))

    def _fit(self, cls, path: Path, **more):
        parameters = SMALL | {"max_steps": STEPS[cls], "classes": self.data.classes, "random_state": 0} | more
        estimator = cls(**parameters, checkpoint=path, checkpoint_seconds=0.0)
        return estimator.fit(self.data.X[:4], self.data.y[:4], unlabeled=self.data.X[4:])

    def _go_on(self, cls, path: Path) -> None:
        weights, expected = self._fit(cls, path).network_.state_dict(), self.good[cls][1]
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected), "other weights"
