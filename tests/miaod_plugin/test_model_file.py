"""Detectors on disk: what comes back is what was saved, and nothing else that is there is lost."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import DATA, OPTIONS, fitted, refused
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone

from miaod_plugin import MIAOD, MIAODDetector, ObjectDetector, Training
from miaod_plugin.detectors.retinanet import retinanet_tiny
from miaod_plugin.errors import ConfigError, DataError


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
