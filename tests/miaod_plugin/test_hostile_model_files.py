"""The file of a detector is input like any other: whatever is wrong with it is one line that names it."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import DATA, OPTIONS, fitted, refused, rewrite
from safetensors.torch import load_file

from miaod_plugin import ObjectDetector
from miaod_plugin.detectors.retinanet import retinanet_tiny


@pytest.fixture(scope="module")
def detector():
    return fitted()


@pytest.fixture
def path(detector, tmp_path):
    detector.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}"])
def test_a_file_that_is_something_else(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "not a detector that save() wrote" in refused(tmp_path / "model.safetensors")


def test_a_file_that_is_missing_or_a_folder(tmp_path):
    assert "no such file" in refused(tmp_path / "model.safetensors")
    assert "no such file" in refused(tmp_path)


def test_a_flipped_bit_is_found_wherever_it_is(path):
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for place in [0, 9, *rng.integers(10, 6000, 6), *rng.integers(6000, len(content), 6)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        refused(path)


@pytest.mark.parametrize("length", [0, 7, 4000, -1])
def test_a_file_that_was_cut_short(path, length):
    path.write_bytes(path.read_bytes()[:length])
    refused(path)


def test_a_file_from_before_there_were_checksums_is_read(path):
    rewrite(path)
    assert ObjectDetector.load(path).classes_.tolist() == list(DATA.classes)


@pytest.mark.parametrize("key", ["estimator", "parameters", "classes_", "losses_", "n_steps_", "n_unlabeled_"])
@pytest.mark.parametrize("value", ["absent", None, -1, [], {}, [[]], {"a": "b"}, 1.5, [None], "\ud800\n"], ids=repr)
def test_values_of_the_wrong_kind(path, key, value):
    good = [("losses_", {}), ("parameters", {})]

    def change(content):
        content.pop(key) if value == "absent" else content.update({key: value})

    if (key, value) not in good:
        rewrite(path, change)
        refused(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        '"x"',
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 600 + "]" * 600,
        '{"n_steps_": ' + "9" * 5000 + "}",
        "NaN",
    ],
    ids=lambda text: text[:12],
)
def test_json_that_is_no_configuration(path, text):
    rewrite(path, lambda content: text)
    refused(path)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"detector": 3}, "detector is not a name"),
        ({"detector": ["retinanet_tiny"]}, "detector is not a name"),
        ({"detector": "../retinanet_tiny"}, "unknown detector"),
        ({"detector": "torchvision:os"}, "no box detector"),
        ({"detector": "torchvision:../../x\n"}, "no box detector"),
        ({"detector": "torchvision:resnet50"}, "no box detector"),
        ({"detector": "retinanet_resnet50_fpn", "detector_options": None}, "do not fit"),
        ({"detector_options": {"width": 4}}, "do not fit"),
        ({"detector_options": {"widht": 4}}, "did you mean"),
        ({"detector_options": {"width": "a"}}, "width: 'a'"),
        ({"detector_options": {"width": None}}, "width: None"),
        ({"detector_options": {"width": -1}}, "width: -1"),
        ({"detector": "torchvision:ssd300_vgg16", "detector_options": {"trainable_backbone_layers": -9}}, "do not"),
        ({"detector_options": [1]}, "detector_options"),
        ({"detector_options": "width"}, "detector_options"),
        ({"batch_size": None}, "batch_size"),
        ({"learning_rate": "1"}, "learning_rate"),
        ({"random_state": 1.5}, "random_state"),
        ({"classes": 7}, "classes"),
        ({"epochs": {"a": 1}}, "epochs"),
        ({"unknown": 1}, "another version"),
        ({"checkpoint": "/somewhere"}, "checkpoint is not a model's"),
        ({"on_step": "print"}, "on_step is not a model's"),
        ({"device": "cpu"}, "device is not a model's"),
    ],
    ids=repr,
)
def test_parameters_that_are_wrong(path, parameters, message):
    rewrite(path, lambda content: content["parameters"].update(parameters))
    assert message in refused(path)


def test_parameters_nested_deeper_than_they_can_be_read(path):
    deep = []
    for _ in range(700):
        deep = [deep]
    rewrite(path, lambda content: content["parameters"].update(detector_options={"width": deep}))
    refused(path)


@pytest.mark.parametrize(
    "options", [{"width": 10**7}, {"fpn_channels": 10**8}, {"fpn_channels": 2**70}, {"head_convs": 10**9}]
)
def test_a_network_larger_than_the_file_takes_no_memory(path, options):
    rewrite(path, lambda content: content["parameters"]["detector_options"].update(options))
    tracemalloc.start()
    before = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    refused(path)
    after = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    assert tracemalloc.get_traced_memory()[1] < 1 << 28 and after - before < 1 << 28
    tracemalloc.stop()


@pytest.mark.parametrize("layers, message", [(2, "do not fit"), (10**9, "more than"), ("two", "do not build")])
def test_options_of_a_detector_of_one_s_own(tmp_path, layers, message):
    def deep(num_classes, layers=1):
        detector = retinanet_tiny(num_classes, **OPTIONS)
        detector.more = torch.nn.ModuleList()
        for _ in range(layers):
            detector.more.append(torch.nn.Linear(1, 1))
        return detector

    path = tmp_path / "own.safetensors"
    fitted(deep, detector_options=None).save(path)
    rewrite(path, lambda content: content["parameters"].update(detector_options={"layers": layers}))
    assert message in refused(path, detector=deep)


@pytest.mark.parametrize(
    "classes",
    [["a", "a"], ["0", "1"], [str(k) for k in range(1_000_000)], ["1", 2, "3", "4", "5"], [""] * 5],
    ids=["doubled", "too few", "a million", "a number", "blank"],
)
def test_classes_that_are_wrong(path, classes):
    rewrite(path, lambda content: content.update(classes_=classes))
    refused(path)


@pytest.mark.parametrize(
    "training, message",
    [
        ("miaod", "'training': "),
        ({"name": "miaud", "parameters": {}}, "unknown training 'miaud'; did you mean 'miaod'"),
        ({"name": "random", "parameters": {}}, "unknown training 'random'"),
        ({"name": "miaod", "parameters": {"epochs": 1}}, "written by another version of 'miaod'"),
        ({"name": "miaod", "parameters": {"rounds": -1}}, "rounds: -1 is not allowed"),
        ({"name": "miaod", "parameters": {"options": {"top_k": 5.5}}}, "options.top_k: 5.5 is not allowed"),
        ({"name": "miaod", "parameters": {}}, "weights do not fit the detector"),
        ({"name": "supervised", "parameters": {}, "more": 1}, "'training.more': "),
    ],
)
def test_trainings_that_are_wrong(path, training, message):
    rewrite(path, lambda content: content.update(training=training))
    assert message in refused(path)


def test_a_file_of_an_earlier_version_that_names_no_training(path):
    rewrite(path, lambda content: content.pop("training") and None)
    assert "'training': Field required; give a file that save() of this version wrote" in refused(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_their_tensor(path, bad):
    tensors = load_file(path)
    tensors["classifiers.0.class_logits.weight"].view(-1)[3] = bad
    rewrite(path, tensors=tensors)
    assert "'classifiers.0.class_logits.weight' holds numbers that are not finite" in refused(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda tensors: tensors.pop("classifiers.0.class_logits.bias"), "is missing"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "'more' is not one of its own"),
        (
            lambda tensors: tensors.update({"classifiers.0.class_logits.bias": torch.zeros(3)}),
            "torch.float32 of shape (3,), not torch.float32 of shape (30,)",
        ),
        (
            lambda tensors: tensors.update({"classifiers.0.class_logits.bias": torch.zeros(15).half()}),
            "torch.float16 of shape (15,), not",
        ),
        (
            lambda tensors: tensors.update(
                {"classifiers.0.class_logits.bias": torch.zeros(15).to(torch.float8_e4m3fn)}
            ),
            "torch.float8_e4m3fn of shape (15,), not",
        ),
        (lambda tensors: tensors.clear(), "is missing"),
    ],
)
def test_tensors_that_do_not_fit(path, change, message):
    tensors = load_file(path)
    change(tensors)
    rewrite(path, tensors=tensors)
    line = refused(path)
    assert "weights do not fit the detector" in line and message in line


def test_a_tensor_that_the_header_lists_twice(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, name = content[8 : 8 + length].rstrip(), b'"classifiers.0.class_logits.bias":'
    other = header[header.index(b'"classifiers.0.class_logits.weight":') :]
    other = other[other.index(b":") + 1 : other.index(b"}") + 1]
    header = header[:-1] + b"," + name + other + b"}"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    refused(path)
