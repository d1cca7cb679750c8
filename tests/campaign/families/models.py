"""Model files: bytes, the header's JSON, what the JSON says about the estimator, and the tensors."""

import json
import struct
from pathlib import Path
from random import Random

import numpy as np
import torch
from cases import Case
from damage import NASTY, damaged_bytes, damaged_tree
from safetensors.torch import load, save
from sane import sane_detections

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.data import make_digit_scenes

from .targets import SIDE, SMALL

KIND, CHECKSUM = "miaod_plugin", "sha256"
PARAMETERS = {
    "detector": (
        "retinanet_resnet50_fpn",
        "ssd300_vgg16",
        "torchvision:retinanet_resnet50_fpn",
        "torchvision:x",
        "retinanet_tinny",
    ),
    "detector_options": (
        {"width": 10**9},
        {"width": 512},
        {"fpn_channels": 2048, "width": 8},
        {"head_convs": 10**6},
        {"x": 1},
    ),
    "checkpoint": ("../outside.txt", "a.half"),
    "classes": (["a"], ["a", "b", "c", "d"], list(range(3)), ["x" * 100_000, "y", "z"]),
    "random_state": (10**30, "x", -1, 1.5),
    "device": ("meta", "cuda:99", "x"),
    "on_step": ("print", {"__reduce__": "os.system"}),
    "options": ({"top_k": 5.5}, {"top_k": 0}, {"x": 1}),
}


def take_apart(content: bytes) -> tuple[dict, bytes]:
    """Return the header and the tensors' bytes of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put_together(header: object, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


class Family:
    def __init__(self, folder: Path):
        folder.mkdir()
        self.data = make_digit_scenes(4, image_size=SIDE, object_size=(8, 16), n_classes=3, random_state=0)
        self.good = []
        for cls in (ObjectDetector, MIAODDetector):
            path = folder / "model.safetensors"
            fitted = cls(**SMALL, classes=self.data.classes, random_state=0).fit(self.data.X, self.data.y)
            fitted.save(path)
            self.good.append((path.read_bytes(), fitted.predict(self.data.X[:1])))

    def case(self, rng: Random, folder: Path) -> Case:
        path = folder / "model.safetensors"
        content, predictions = rng.choice(self.good)
        kind = rng.choice(
            ("bytes", "bytes", "header", "content", "content", "parameter", "parameter", "tensors", "same", "no file")
        )
        # Whatever leaves the checksum in must give the same model, or none.
        same = predictions if kind in ("bytes", "same") else None
        if kind == "bytes":
            content, what = damaged_bytes(rng, content, (b"PK\3\4" + bytes(100), self.good[0][0]))
        elif kind == "header":
            header, rest = take_apart(content)
            header, what = damaged_tree(rng, header)
            content = put_together(header, rest)
        elif kind in ("content", "parameter"):
            content, what = self._other_content(rng, content, kind)
        elif kind == "tensors":
            content, what = self._other_tensors(rng, content)
        elif kind == "same":
            header, rest = take_apart(content)
            content, what = put_together(dict(reversed(header.items())), rest), "order of the header"
        if kind == "no file":
            what = rng.choice(("missing", "folder", "empty", "pickle"))
            content = b"" if what == "empty" else b"\x80\x04cos\nsystem\n(S'touch x'\ntR."
        if what == "folder":
            path.mkdir()
        elif what != "missing":
            path.write_bytes(content)
        return Case(f"{kind}: {what}", lambda: self._load(path, same), (path.name,))

    def _load(self, path: Path, same: np.ndarray | None) -> None:
        estimator = ObjectDetector.load(path)
        found = estimator.predict(self.data.X[:1])
        sane_detections(found, [(SIDE, SIDE)], len(estimator.classes_))
        assert len(estimator.classes_) == len(set(estimator.classes_.tolist()))
        for key in () if same is None else ("boxes", "labels", "scores"):
            assert np.array_equal(found[0][key], same[0][key]), f"other {key}"

    def _other_content(self, rng: Random, content: bytes, kind: str) -> tuple[bytes, str]:
        """Change what the file says about the estimator, without the checksum that would tell."""
        header, rest = take_apart(content)
        metadata = header["__metadata__"]
        said = json.loads(metadata[KIND])
        if kind == "content":
            said, what = damaged_tree(rng, said)
        else:
            of = rng.choice([said, said["training"] or said])["parameters"]
            name = rng.choice((*PARAMETERS, *of))
            of[name] = value = rng.choice(PARAMETERS.get(name, NASTY))
            what = f"{name}={value!r:.60}"
        text = json.dumps(said)
        if rng.random() < 0.1:
            text, what = rng.choice(("[" * 100_000, "{" * 9, "NaN", "9" * 10_000, '{"estimator": 1}')), "text"
        header["__metadata__"] = {KIND: text}
        return put_together(header, rest), what

    def _other_tensors(self, rng: Random, content: bytes) -> tuple[bytes, str]:
        header, _ = take_apart(content)
        tensors = load(content)
        name = rng.choice(sorted(tensors))
        what = rng.choice(("nan", "inf", "huge", "lose", "rename", "reshape", "double", "integers", "more", "empty"))
        tensor = tensors[name]
        if what in ("lose", "rename"):
            del tensors[name]
        changed = {
            "nan": {name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor - 7},
            "inf": {name: torch.full_like(tensor, torch.inf) if tensor.is_floating_point() else tensor},
            "huge": {name: torch.full_like(tensor, 1e38) if tensor.is_floating_point() else tensor},
            "rename": {rng.choice(("x", "", "é", "network", name + ".0")): tensor},
            "reshape": {name: tensor.reshape(1, -1)},
            "double": {name: tensor.double()},
            "integers": {name: tensor.to(torch.int32)},
            "more": {"more": torch.zeros(3)},
            "empty": {name: tensor.reshape(-1)[:0]},
        }
        text = header["__metadata__"][KIND]
        return save(tensors | changed.get(what, {}), metadata={KIND: text}), f"{what} {name}"
