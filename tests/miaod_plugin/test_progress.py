"""What is printed of a long fit, and of objects that hold thousands of images."""

import numpy as np
import pytest

from miaod_plugin import DetectionLearner, MIAODDetector, ObjectDetector
from miaod_plugin.data import load_folder, make_digit_scenes
from miaod_plugin.data.images import store_image
from miaod_plugin.errors import ConfigError
from miaod_plugin.progress import duration
from miaod_plugin.strategies import CoreSetSampling, EntropySampling, MIAODSampling, RandomSampling

DATA = make_digit_scenes(6, random_state=0)


def fitted(cls, **parameters):
    detector = cls("retinanet_tiny", classes=DATA.classes, max_steps=5, random_state=0, **parameters)
    return detector.fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:])


@pytest.mark.parametrize("cls", [ObjectDetector, MIAODDetector])
def test_verbose_tells_of_steps_losses_and_time_and_changes_nothing(cls, capsys):
    silent = fitted(cls)
    silent.predict(DATA.X)
    assert capsys.readouterr().out == ""
    told = fitted(cls, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(
        line.startswith(f"[ObjectDetector] {k} of 5 steps, ") for k, line in enumerate(lines, 1)
    )
    assert "label: " in lines[0] and "classification" in lines[0]
    assert lines[2].endswith(" left") and ", took " in lines[4]
    np.testing.assert_array_equal(silent.transform(DATA.X), told.transform(DATA.X))
    assert "6 of 6 images, took" in capsys.readouterr().out


def test_verbose_1_prints_a_short_fit_once_and_still_calls_on_step(capsys):
    seen = []
    detector = fitted(ObjectDetector, verbose=True, on_step=seen.append)
    assert len(seen) == 5
    assert capsys.readouterr().out.count("\n") == 1
    assert detector.get_params()["verbose"] is True


def test_verbose_is_no_part_of_a_model(tmp_path):
    fitted(ObjectDetector, verbose=1).save(tmp_path / "model.safetensors")
    assert ObjectDetector.load(tmp_path / "model.safetensors").verbose == 0


@pytest.mark.parametrize("verbose", [-1, "yes", None, 1.5])
def test_a_wrong_verbose_is_named(verbose):
    with pytest.raises(ConfigError, match="verbose: "):
        fitted(ObjectDetector, verbose=verbose)


def test_a_pass_over_a_pool_goes_on_past_images_that_cannot_be_read(tmp_path):
    for k, image in enumerate(DATA.X):
        store_image(image, tmp_path / str(k))
    for name in ("0.png", "4.png"):
        (tmp_path / name).write_bytes(b"no image")
    paths, broken = load_folder(tmp_path).X, {}
    detector = fitted(ObjectDetector, score_batch_size=2)
    reducers = {"embeddings": lambda outputs: outputs.embeddings, "found": lambda outputs: outputs.detections}
    passed = list(detector.map_batches(paths, reducers, on_broken=broken.__setitem__))
    assert sorted(broken) == [0, 4] and all(paths[k] in str(error) for k, error in broken.items())
    assert [indices.tolist() for indices, _ in passed] == [[1, 2], [3, 5]]
    whole = detector.transform(DATA.X[[1, 2, 3, 5]])
    np.testing.assert_allclose(np.concatenate([rows["embeddings"] for _, rows in passed]), whole, rtol=1e-3, atol=1e-5)


def test_an_image_that_a_worker_cannot_read_is_named_in_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError) as error:
        fitted(ObjectDetector, num_workers=1).predict(load_folder(tmp_path).X)
    assert str(tmp_path / "a.png") in str(error.value) and "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("strategy", [CoreSetSampling, EntropySampling, MIAODSampling, RandomSampling])
def test_what_holds_images_prints_as_one_short_line(strategy):
    learner = DetectionLearner(ObjectDetector("retinanet_tiny", max_steps=1), strategy(), DATA.X, DATA.y)
    estimator = "ObjectDetector(detector='retinanet_tiny', max_steps=1)"
    assert repr(learner) == f"DetectionLearner({estimator}, {strategy.__name__}(), 6 annotated images)"
    boxes = sum(len(target["boxes"]) for target in DATA.y)
    text = f"DetectionData('train', 6 images, 6 annotated with {boxes} boxes, 5 classes: 0, 1, 2, 3, 4)"
    assert str(DATA) == text
    assert "10 classes: 0, 1, 2, 3, 4, ...)" in repr(make_digit_scenes(2, n_classes=10, random_state=0))


def test_durations_read_as_a_person_says_them():
    assert [duration(s) for s in (0, 119, 120, 7199, 7200, 86400 * 3)] == [
        "0 s", "119 s", "2.0 min", "120.0 min", "2.0 h", "3.0 days",
    ]  # fmt: skip
