"""The README's example of a detector of one's own, run as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miaod_plugin import DetectionLearner, MIAODDetector, ObjectDetector
from miaod_plugin.baselines import CoreSetSampling, EntropySampling
from miaod_plugin.data import make_targets
from miaod_plugin.strategies import MIAODSampling

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def example():
    """Return the names that the example defines once it has run."""
    section = README.read_text(encoding="utf-8").split("\n## Your own detector\n")[1]
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], "README.md", "exec"), names)
    return names


def test_the_example_trains_under_miaod_and_selects(example):
    assert example["detector"].n_unlabeled_ == 20 and len(example["picked"]) == 10
    assert (example["uncertainties"] > 0).all() and (np.diff(example["uncertainties"]) <= 0).all()


def test_its_losses_fall(example):
    data, losses = example["data"], []
    detector = ObjectDetector(
        example["PointDetector"],
        data.classes,
        detector_options={"width": 16},
        max_steps=80,
        batch_size=4,
        random_state=0,
        optimizer="adamw",
        learning_rate=0.004,
        on_step=lambda report: losses.append(sum(report["losses"].values())),
    ).fit(data.X[:8], data.y[:8])
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    assert detector.score(data.X[:8], data.y[:8]) > 0


def test_it_masks_padding_learns_without_boxes_and_survives_saving(example, tmp_path):
    X = [tmp_path / "wide.png", tmp_path / "tall.png"]
    for path, size in zip(X, ((90, 50), (40, 70)), strict=True):
        Image.fromarray(np.full((*size[::-1], 3), 120, np.uint8)).save(path)
    empty = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    X = np.array([str(path) for path in X])
    detector = MIAODDetector(example["PointDetector"], ("thing",), max_steps=4, random_state=0)
    detector.fit(X, make_targets([empty, empty]), unlabeled=X)
    assert np.isfinite(list(detector.losses_.values())).all()
    valid = detector.map_pool(X, {"valid": lambda outputs: outputs.valid[0].sum(dim=1)})["valid"]
    assert valid.tolist() == [12 * 7, 5 * 9]  # each image alone, none on padding
    detector.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors", detector=example["PointDetector"])
    np.testing.assert_array_equal(loaded.transform(X), detector.transform(X))


@pytest.mark.parametrize("strategy", [MIAODSampling(), EntropySampling(over="instances"), CoreSetSampling()])
def test_every_strategy_works_with_it_in_the_loop(example, strategy):
    data = example["data"]
    learner = DetectionLearner(
        MIAODDetector(
            example["PointDetector"], data.classes, detector_options={"width": 16}, max_steps=7, random_state=0
        ),
        strategy,
        data.X[:4],
        data.y[:4],
        unlabeled=data.X[4:12],
    )
    indices, images = learner.query(data.X[4:12], n_instances=3)
    learner.teach(images, data.y[4:12][indices])
    assert len(learner.estimator.X_labeled_) == 7
