"""Saved detectors, written anew with something wrong, and how they are refused."""

import json

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import MiaodError

DATA = make_digit_scenes(4, random_state=5)
OPTIONS = {"width": 8, "fpn_channels": 16}


def fitted(detector="retinanet_tiny", cls=ObjectDetector, **parameters):
    common = {"classes": DATA.classes, "detector_options": OPTIONS, "max_steps": 1, "random_state": 0}
    return cls(detector, **common | parameters).fit(DATA.X[:2], DATA.y[:2])


def rewrite(path, change=None, tensors=None):
    """Write a model file anew with another configuration or other tensors, and without a checksum."""
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["miaod_plugin"])
    changed = change(content) if change else None
    content = content if changed is None else changed
    text = content if isinstance(content, str) else json.dumps(content)
    save_file(load_file(path) if tensors is None else tensors, path, {"miaod_plugin": text})


def refused(path, cls=ObjectDetector, **arguments):
    """Return the one line with which a file is refused."""
    with pytest.raises(MiaodError) as caught:
        cls.load(path, **arguments)
    line = str(caught.value)
    assert str(path) in line and line.isprintable() and len(line) <= 600
    return line
