"""What tests of the commands for a single detector share, and those of projects."""

import sys

import numpy as np
import pytest
from annotators import Annotator

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.cli.app import main
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.data.images import store_image


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A folder with the files of a MI-AOD and of a supervised detector."""
    folder, data = tmp_path_factory.mktemp("checkpoints"), make_digit_scenes(6, random_state=11)
    for cls, name in ((MIAODDetector, "miaod"), (ObjectDetector, "supervised")):
        detector = cls("retinanet_tiny", classes=data.classes, max_steps=12, optimizer="adamw", random_state=0)
        detector.fit(data.X[:3], data.y[:3], unlabeled=data.X[3:])
        for classifier in detector.network_.classifiers:
            list(classifier.parameters())[-1].data += 2.5  # the last bias: boxes are found in anything
        detector.save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder of three photographs of unequal size, one of them in a folder of its own."""
    for name, height, width in (("a", 64, 64), ("b", 40, 90), ("sub/c", 100, 70)):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), dtype=np.uint8)
        store_image(pixels, tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def miaod(monkeypatch, capsys):
    """Run the command line in this process; gives its exit status, output and errors."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["miaod", *map(str, arguments)])
        with pytest.raises(SystemExit) as status:
            main()
        return status.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def annotator(tmp_path_factory):
    return Annotator(tmp_path_factory.mktemp("photographs"))


@pytest.fixture
def project(annotator, tmp_path):
    return annotator.project(tmp_path / "project")
