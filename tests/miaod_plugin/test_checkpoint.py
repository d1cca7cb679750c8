"""An interrupted training goes on to the very same result, from a file that is of that training and whole."""

import functools
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_detectors import TINY_OPTIONS
from torchvision.models import mobilenet_v2

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.data import load_voc, make_digit_scenes, write_voc
from miaod_plugin.detectors.retinanet import retinanet_mobilenet_v2_fpn, retinanet_tiny
from miaod_plugin.errors import DataError
from miaod_plugin.training.checkpoint import discard_damaged

DATA = make_digit_scenes(10, random_state=1)
NAME = "retinanet_mobilenet_v2_fpn"
OPTIONS = TINY_OPTIONS[NAME]


class Stop(Exception):
    """Ends a training after a step."""


def stopping_after(step):
    def on_step(report):
        if report["step"] == step:
            raise Stop

    return on_step


def detector_of(path, cls=ObjectDetector, **parameters):
    common = {"detector_options": OPTIONS, "classes": DATA.classes, "random_state": 0, "max_steps": 4}
    return cls(parameters.pop("detector", NAME), checkpoint=path, checkpoint_seconds=0.0, **common | parameters)


def interrupt(path, X=DATA.X[:4], y=DATA.y[:4], **parameters):
    """Leave the file of a training that was stopped after step 3."""
    with pytest.raises(Stop):
        detector_of(path, on_step=stopping_after(3), **parameters).fit(X, y)
    assert path.exists()
    return path


def first_step(path, X=DATA.X[:4], y=DATA.y[:4], cls=ObjectDetector, **parameters):
    """Return the first step of a fit that finds this file."""
    steps = []
    detector_of(path, cls, on_step=lambda report: steps.append(report["step"]), **parameters).fit(X, y)
    return steps[0]


@pytest.fixture(scope="module")
def half_trained(tmp_path_factory):
    return interrupt(tmp_path_factory.mktemp("half") / "fit.half")


@pytest.fixture
def half(half_trained, tmp_path):
    return Path(shutil.copy(half_trained, tmp_path))


@pytest.mark.parametrize(
    "mode, optimizer", [("improved", "sgd"), ("faithful", "sgd"), ("improved", "adamw")], ids="-".join
)
@pytest.mark.parametrize("step", [1, 5, 9, 16])
def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(tmp_path, mode, step, optimizer):
    common = dict(classes=DATA.classes, max_steps=16, mode=mode, random_state=3, optimizer=optimizer)
    images = dict(X=DATA.X[:4], y=DATA.y[:4], unlabeled=DATA.X[4:])
    whole = MIAODDetector("retinanet_tiny", **common).fit(**images)
    cut = MIAODDetector("retinanet_tiny", **common, checkpoint=tmp_path / "fit.half", checkpoint_seconds=0.0)
    with pytest.raises(Stop):
        cut.set_params(on_step=stopping_after(step)).fit(**images)
    steps = []
    cut.set_params(on_step=lambda report: steps.append(report["step"])).fit(**images)
    assert steps == list(range(step + 1, 17))
    assert not os.listdir(tmp_path)
    assert whole.losses_ == cut.losses_
    for name, tensor in whole.network_.state_dict().items():
        assert torch.equal(tensor, cut.network_.state_dict()[name]), name


def test_the_same_training_goes_on_whatever_changes_no_result(half):
    """Neither a default that is spelled out, nor another batch size of scoring, makes it another training."""
    spelled_out = {"frozen_stages": 1, "anchor_size": np.int64(32), "image_mean": [0.485, 0.456, 0.406]}
    same = {"detector_options": OPTIONS | spelled_out}
    assert first_step(half, **same, score_batch_size=1, device="cpu", random_state=np.int64(0)) == 4


@pytest.mark.parametrize(
    "change",
    [
        *[
            {"detector_options": OPTIONS | option}
            for option in (
                {"anchor_size": 16},
                {"min_size": 48},
                {"max_size": 80},
                {"image_mean": (0.5, 0.5, 0.5)},
                {"batch_norm": "trained"},
                {"frozen_stages": 2},
                {"positives_of": "batch"},
                {"head_convs": 2},
            )
        ],
        {"detector": retinanet_mobilenet_v2_fpn},
        {"detector": functools.partial(retinanet_mobilenet_v2_fpn, anchor_size=16)},
        {"random_state": 1},
        {"learning_rate": 0.5},
        {"horizontal_flip": 0.0},
        {"augmentation": "ssd"},
        {"micro_batch_size": 1},
        {"group_by_aspect": True},
        {"precision": "tf32"},
        {"max_steps": 5},
        {"classes": tuple(reversed(DATA.classes))},
        {"X": DATA.X[1:5]},
        {"y": DATA.y[1:5]},
        {"cls": MIAODDetector},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_half_trained_fit_is_taken_up_by_the_same_training_alone(half, change, caplog):
    with caplog.at_level(logging.WARNING):
        assert first_step(half, **change) == 1
    (line,) = [record.getMessage() for record in caplog.records if "starting over" in record.getMessage()]
    assert str(half) in line and "\n" not in line


def test_backbone_weights_count_by_their_content(tmp_path):
    path, weights = tmp_path / "weights.pth", mobilenet_v2().state_dict()
    options = {"detector_options": OPTIONS | {"weights": str(path)}}
    torch.save(weights, path)
    half = interrupt(tmp_path / "fit.half", **options)
    same = Path(shutil.copy(half, tmp_path / "same.half"))
    assert first_step(same, **options) == 4
    weights["features.0.0.weight"] *= 2
    torch.save(weights, path)
    assert first_step(half, **options) == 1


def test_a_training_does_not_go_on_with_an_image_that_was_replaced(tmp_path):
    write_voc(DATA, tmp_path / "data")
    data = load_voc(tmp_path / "data", split="train", classes=DATA.classes)
    half = interrupt(tmp_path / "fit.half", data.X[:4], data.y[:4])
    same = Path(shutil.copy(half, tmp_path / "same.half"))
    assert first_step(same, data.X[:4], data.y[:4]) == 4
    shutil.copyfile(data.X[5], data.X[0])
    assert first_step(half, data.X[:4], data.y[:4]) == 1


def refused(path):
    """Return the line with which a fit refuses a file, which stays as it is."""
    before = path.read_bytes()
    with pytest.raises(DataError) as caught:
        detector_of(path).fit(DATA.X[:4], DATA.y[:4])
    assert path.read_bytes() == before
    return str(caught.value)


def test_a_half_trained_fit_with_a_flipped_bit_is_refused_wherever_it_is(half):
    content, rng = half.read_bytes(), np.random.default_rng(0)
    for place in [0, 9, *rng.integers(10, 6000, 4), *rng.integers(6000, len(content), 4)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        half.write_bytes(damaged)
        line = refused(half)
        assert str(half) in line and "delete it to start over" in line


@pytest.mark.parametrize("length", [0, 7, 4000, -1])
def test_a_half_trained_fit_that_was_cut_short_is_refused(half, length):
    half.write_bytes(half.read_bytes()[:length])
    assert "delete it to start over" in refused(half)


def test_a_file_that_is_something_else_is_refused_and_kept(tmp_path):
    notes, old, model = (tmp_path / name for name in ("notes.txt", "old.ckpt", "model.safetensors"))
    notes.write_text("my notes")
    torch.save({"fingerprint": "ab", "step": 3}, old)
    ObjectDetector("retinanet_tiny", classes=DATA.classes, max_steps=1).fit(DATA.X[:2], DATA.y[:2]).save(model)
    for path in (notes, old, model):
        assert "delete it to start over" in refused(path)


def test_a_file_without_a_checksum_is_refused(half):
    tensors = load_file(half)
    save_file(tensors, half, {"miaod_plugin_half_trained": "{}"})
    assert "delete it to start over" in refused(half)


def test_tensors_that_share_memory_are_kept_apart_in_the_file(tmp_path):
    """A detector of one's own may tie weights, which safetensors does not take."""

    def tied(num_classes):
        detector = retinanet_tiny(num_classes, width=8, fpn_channels=16)
        detector.again = detector.retinanet
        return detector

    half = interrupt(tmp_path / "fit.half", detector=tied, detector_options=None)
    assert first_step(half, detector=tied, detector_options=None) == 4


def test_whoever_owns_the_path_can_start_over(half, caplog):
    discard_damaged(half)
    discard_damaged(half.with_name("none.half"))
    assert half.exists() and not caplog.records
    half.write_bytes(half.read_bytes()[:-1])
    discard_damaged(half)
    assert not half.exists() and str(half) in caplog.text
