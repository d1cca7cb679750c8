"""Detectors on disk: what comes back is what was saved, and a file is input like any other."""

import copy
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.base import clone

from miaod_plugin import MIAOD, MIAODDetector, ObjectDetector, Training
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.retinanet import retinanet_tiny
from miaod_plugin.errors import ConfigError, DataError, MiaodError

DATA = make_digit_scenes(4, random_state=5)
OPTIONS = {"width": 8, "fpn_channels": 16}


def fitted(detector="retinanet_tiny", cls=ObjectDetector, **parameters):
    common = {"classes": DATA.classes, "detector_options": OPTIONS, "max_steps": 1, "random_state": 0}
    return cls(detector, **common | parameters).fit(DATA.X[:2], DATA.y[:2])


def plain(estimator):
    """Return all parameters, of the training too, but for the training itself, which differs from a copy of it."""
    parameters = estimator.get_params()
    return {name: value for name, value in parameters.items() if not isinstance(value, Training)}


@pytest.fixture(scope="module")
def detector():
    return fitted()


@pytest.fixture
def path(detector, tmp_path):
    detector.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


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


@pytest.mark.parametrize("cls", [ObjectDetector, MIAODDetector])
def test_a_loaded_detector_has_the_parameters_and_the_bits_of_the_saved_one(tmp_path, cls):
    saved = fitted(cls=cls, device="cpu", random_state=np.int64(3), warmup_steps=np.int32(1), score_batch_size=4)
    saved.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors", device="cpu")
    assert type(loaded.training_) is type(saved.training_)
    assert plain(loaded) == plain(saved) == plain(clone(loaded))
    assert [type(value) for value in (loaded.random_state, loaded.classes)] == [int, tuple]
    for name in ("losses_", "n_steps_", "n_unlabeled_"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.classes_.tolist() == saved.classes_.tolist()
    assert np.array_equal(loaded.transform(DATA.X), saved.transform(DATA.X))
    again = clone(loaded).fit(DATA.X[:2], DATA.y[:2])
    assert np.array_equal(again.transform(DATA.X), saved.transform(DATA.X))


def test_nested_tuples_and_paths_come_back_as_what_does_the_same(detector, tmp_path):
    saved = clone(detector).set_params(detector_options={"image_mean": ((0.5, 1), [2]), "weights": Path("w.pth")})
    saved.network_, saved.classes_, saved.losses_ = detector.network_, detector.classes_, detector.losses_
    saved.n_steps_, saved.n_unlabeled_ = 1, 0
    saved.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        options = json.loads(file.metadata()["miaod_plugin"])["parameters"]["detector_options"]
    assert options == {"image_mean": {"tuple": [{"tuple": [0.5, 1]}, [2]]}, "weights": "w.pth"}


@pytest.mark.parametrize("value", [object(), float("nan"), {"tuple": [1]}, {1: 2}, len])
def test_a_parameter_that_json_does_not_know_is_refused(detector, tmp_path, value):
    strange = fitted()
    strange.detector_options = {"width": value}
    with pytest.raises(ConfigError, match="cannot be saved"):
        strange.save(tmp_path / "model.safetensors")
    assert not os.listdir(tmp_path)


def test_a_detector_of_one_s_own_is_given_again(tmp_path):
    own = fitted(retinanet_tiny)
    own.save(tmp_path / "own.safetensors")
    with pytest.raises(ConfigError, match="detector="):
        ObjectDetector.load(tmp_path / "own.safetensors")
    loaded = ObjectDetector.load(tmp_path / "own.safetensors", detector=retinanet_tiny)
    assert np.array_equal(loaded.transform(DATA.X[:2]), own.transform(DATA.X[:2]))


def test_a_training_is_saved_by_its_registered_name_with_its_parameters(tmp_path):
    saved = fitted(training=MIAOD(rounds=1, options={"detect_with": "first", "top_k": 5}))
    saved.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        content = json.loads(file.metadata()["miaod_plugin"])
    assert content["training"]["name"] == "miaod" and "training" not in content["parameters"]
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    assert loaded.training.get_params() == saved.training.get_params()
    assert loaded.network_.detect_with == "first"


def test_a_training_of_one_s_own_is_given_again(tmp_path):
    class Own(MIAOD):
        pass

    own = fitted(training=Own(rounds=0))
    own.save(tmp_path / "own.safetensors")
    with pytest.raises(ConfigError, match="training="):
        ObjectDetector.load(tmp_path / "own.safetensors")
    loaded = ObjectDetector.load(tmp_path / "own.safetensors", training=Own(rounds=0))
    assert np.array_equal(loaded.transform(DATA.X[:2]), own.transform(DATA.X[:2]))


def test_weights_that_are_tied_are_saved_and_loaded(tmp_path):
    def tied(num_classes):
        detector = retinanet_tiny(num_classes, **OPTIONS)
        detector.again = detector.retinanet
        return detector

    saved = fitted(tied, detector_options=None)
    saved.save(tmp_path / "tied.safetensors")
    loaded = ObjectDetector.load(tmp_path / "tied.safetensors", detector=tied)
    assert np.array_equal(loaded.transform(DATA.X[:2]), saved.transform(DATA.X[:2]))


def test_a_detector_works_on_the_device_it_is_loaded_for(path):
    assert ObjectDetector.load(path).device == "auto"
    loaded = ObjectDetector.load(path, device="cpu")
    assert loaded.device == "cpu" and next(loaded.network_.parameters()).device.type == "cpu"


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", None, 7, "cpu\n"])
def test_a_device_that_is_not_there_is_one_line(path, device):
    with pytest.raises(ConfigError, match="device: ") as caught:
        ObjectDetector.load(path, device=device)
    assert str(caught.value).isprintable()


def test_a_file_of_another_class_says_which(path):
    class Other(ObjectDetector):
        pass

    assert "holds a 'ObjectDetector'" in refused(path, Other)


def test_a_subclass_of_one_s_own_is_found(tmp_path):
    class Own(ObjectDetector):
        pass

    fitted(cls=Own).save(tmp_path / "own.safetensors")
    assert type(ObjectDetector.load(tmp_path / "own.safetensors")) is Own


class TestSave:
    def test_the_same_detector_makes_the_same_file_to_the_last_bit(self, detector, tmp_path):
        named = copy.copy(detector)
        named.classes_ = np.array(['a\n"\\\x01\x7f', "\u00e9\u2028", "\U0001f600", "d", "e"])
        for k in range(8):  # the order of the header's entries is random
            named.save(tmp_path / str(k))
        assert len({(tmp_path / str(k)).read_bytes() for k in range(8)}) == 1
        assert ObjectDetector.load(tmp_path / "0").classes_.tolist() == named.classes_.tolist()

    def test_a_detector_is_saved_over_a_detector(self, detector, path):
        before = path.read_bytes()
        fitted(random_state=1).save(path)
        assert path.read_bytes() != before

    def test_anything_else_that_is_there_stays(self, detector, tmp_path):
        (tmp_path / "notes.txt").write_text("my notes")
        (tmp_path / "folder").mkdir()
        save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        before = sorted(os.listdir(tmp_path))
        for name in before:
            with pytest.raises(DataError, match="is there already"):
                detector.save(tmp_path / name)
        assert (tmp_path / "notes.txt").read_text() == "my notes" and sorted(os.listdir(tmp_path)) == before

    def test_a_link_is_replaced_and_what_it_leads_to_stays(self, detector, path, tmp_path):
        (tmp_path / "latest").symlink_to(path)
        before = path.read_bytes()
        fitted(random_state=1).save(tmp_path / "latest")
        assert path.read_bytes() == before
        assert not (tmp_path / "latest").is_symlink() and ObjectDetector.load(tmp_path / "latest").random_state == 1

    def test_a_link_to_something_else_is_refused(self, detector, tmp_path):
        (tmp_path / "notes.txt").write_text("my notes")
        (tmp_path / "latest").symlink_to(tmp_path / "notes.txt")
        with pytest.raises(DataError, match="is there already"):
            detector.save(tmp_path / "latest")


class TestHostileFiles:
    @pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}"])
    def test_a_file_that_is_something_else(self, tmp_path, content):
        (tmp_path / "model.safetensors").write_bytes(content)
        assert "not a detector that save() wrote" in refused(tmp_path / "model.safetensors")

    def test_a_file_that_is_missing_or_a_folder(self, tmp_path):
        assert "no such file" in refused(tmp_path / "model.safetensors")
        assert "no such file" in refused(tmp_path)

    def test_a_flipped_bit_is_found_wherever_it_is(self, path):
        content, rng = path.read_bytes(), np.random.default_rng(0)
        for place in [0, 9, *rng.integers(10, 6000, 6), *rng.integers(6000, len(content), 6)]:
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            refused(path)

    @pytest.mark.parametrize("length", [0, 7, 4000, -1])
    def test_a_file_that_was_cut_short(self, path, length):
        path.write_bytes(path.read_bytes()[:length])
        refused(path)

    def test_a_file_from_before_there_were_checksums_is_read(self, path):
        rewrite(path)
        assert ObjectDetector.load(path).classes_.tolist() == list(DATA.classes)

    @pytest.mark.parametrize("key", ["estimator", "parameters", "classes_", "losses_", "n_steps_", "n_unlabeled_"])
    @pytest.mark.parametrize("value", ["absent", None, -1, [], {}, [[]], {"a": "b"}, 1.5, [None], "\ud800\n"], ids=repr)
    def test_values_of_the_wrong_kind(self, path, key, value):
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
    def test_json_that_is_no_configuration(self, path, text):
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
    def test_parameters_that_are_wrong(self, path, parameters, message):
        rewrite(path, lambda content: content["parameters"].update(parameters))
        assert message in refused(path)

    def test_parameters_nested_deeper_than_they_can_be_read(self, path):
        deep = []
        for _ in range(700):
            deep = [deep]
        rewrite(path, lambda content: content["parameters"].update(detector_options={"width": deep}))
        refused(path)

    @pytest.mark.parametrize(
        "options", [{"width": 10**7}, {"fpn_channels": 10**8}, {"fpn_channels": 2**70}, {"head_convs": 10**9}]
    )
    def test_a_network_larger_than_the_file_takes_no_memory(self, path, options):
        rewrite(path, lambda content: content["parameters"]["detector_options"].update(options))
        tracemalloc.start()
        before = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
        refused(path)
        after = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
        assert tracemalloc.get_traced_memory()[1] < 1 << 28 and after - before < 1 << 28
        tracemalloc.stop()

    @pytest.mark.parametrize("layers, message", [(2, "do not fit"), (10**9, "more than"), ("two", "do not build")])
    def test_options_of_a_detector_of_one_s_own(self, tmp_path, layers, message):
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
    def test_classes_that_are_wrong(self, path, classes):
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
    def test_trainings_that_are_wrong(self, path, training, message):
        rewrite(path, lambda content: content.update(training=training))
        assert message in refused(path)

    def test_a_file_of_an_earlier_version_that_names_no_training(self, path):
        rewrite(path, lambda content: content.pop("training") and None)
        assert "'training': Field required; give a file that save() of this version wrote" in refused(path)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite_name_their_tensor(self, path, bad):
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
    def test_tensors_that_do_not_fit(self, path, change, message):
        tensors = load_file(path)
        change(tensors)
        rewrite(path, tensors=tensors)
        line = refused(path)
        assert "weights do not fit the detector" in line and message in line

    def test_a_tensor_that_the_header_lists_twice(self, path):
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header, name = content[8 : 8 + length].rstrip(), b'"classifiers.0.class_logits.bias":'
        other = header[header.index(b'"classifiers.0.class_logits.weight":') :]
        other = other[other.index(b":") + 1 : other.index(b"}") + 1]
        header = header[:-1] + b"," + name + other + b"}"
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
        refused(path)
