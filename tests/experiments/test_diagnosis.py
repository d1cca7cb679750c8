import math
import shutil
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from own_packages import register
from scipy.stats import spearmanr
from tiny_experiment import run_tiny, write_experiment

from miaod_plugin import ObjectDetector
from miaod_plugin.cli.app import app
from miaod_plugin.data import make_digit_scenes, read_image
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.config.trainings import load_estimator
from miaod_plugin.experiments.report.diagnosis import diagnose, rank_correlation, true_values, write_diagnosis
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Run
from miaod_plugin.query import QueryStrategy
from miaod_plugin.registry import STRATEGIES
from miaod_plugin.training.batches import training_target

ARMS = [
    {"training": "miaod", "strategy": "miaod"},
    {"training": "supervised", "strategy": "entropy"},
    {"training": "supervised", "strategy": "coreset"},
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnosed")
    run_tiny(folder, arms=ARMS, seeds=[0], budgets=[4, 6])
    config = load_config(folder / "tiny.yaml")
    return Run(config, folder / "runs"), load_data(config)[0]


def test_each_model_is_asked_by_every_strategy_that_can_score_its_pool(finished):
    rows = list(diagnose(*finished))
    asked = {arm: [row["strategy"] for row in rows if row["arm"] == arm] for arm in finished[0].trainings}
    assert asked == {
        "miaod+miaod": ["miaod", "entropy", "coreset"],
        "supervised+entropy": ["entropy", "coreset"],  # MI-AOD needs two classifiers
        "supervised+coreset": ["entropy", "coreset"],
    }
    assert {(row["cycle"], row["images"]) for row in rows} == {(0, 20)}


class Crowds(QueryStrategy):
    """Asks for the images with the most boxes, which the test tells it."""

    counts: ClassVar[dict] = {}

    def utilities(self, estimator, X, *, labeled=None):
        return np.array([self.counts[image.tobytes()] for image in X], dtype=float)


def test_a_strategy_that_knows_the_truth_has_rank_1_of_it(finished, tmp_path, monkeypatch):
    run, train = finished
    register(tmp_path, STRATEGIES, "crowds = test_diagnosis:Crowds")
    monkeypatch.syspath_prepend(tmp_path)
    arms = [*ARMS, {"training": "supervised", "strategy": "crowds"}]  # the last one is yet to run
    run = Run(load_config(write_experiment(tmp_path, arms=arms, seeds=[0], budgets=[4, 6])), run.root.parent)
    Crowds.counts = {image.tobytes(): len(target["labels"]) for image, target in zip(train.X, train.y, strict=True)}
    rows = [row for row in diagnose(run, train) if row["strategy"] == "crowds"]
    assert [row["boxes"] for row in rows] == [pytest.approx(1)] * 3
    labelled = (run.folder(run.arm_cells()[0]) / "labelled.txt").read_text().split()
    pool = [row for row, name in enumerate(train.ids.tolist()) if name not in labelled]
    estimator = load_estimator(run.config, run.folder(run.arm_cells()[0]) / "model.safetensors")
    losses = true_values(estimator, train, np.array(pool))["loss"]
    counts = [len(train.y[row]["labels"]) for row in pool]
    assert rows[0]["loss"] == pytest.approx(spearmanr(counts, losses).statistic)


def test_a_run_is_not_held_against_other_annotations(finished, tmp_path):
    run, _ = finished
    shutil.copytree(run.root, tmp_path / "tiny")
    config = tmp_path / "tiny" / "config.yaml"
    config.write_text(config.read_text().replace("n_classes: 3", "n_classes: 4"))
    (tmp_path / "tiny" / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match=r"data.train: not what the run in .* began with"):
        write_diagnosis(tmp_path / "tiny")


def test_the_command_writes_the_ranks_and_shows_their_means_over_seeds(finished, capsys):
    run, _ = finished
    with pytest.raises(SystemExit) as ended:
        app(["diagnose", str(run.root)])
    assert ended.value.code == 0
    rows = (run.root / "diagnosis.csv").read_text().splitlines()
    assert rows[0] == "arm,seed,cycle,strategy,images,loss,error,boxes" and len(rows) == 8
    shown = capsys.readouterr().out
    assert "miaod+miaod" in shown and "diagnosis.csv" in shown


def test_arms_can_be_chosen_by_name(finished):
    assert {row["arm"] for row in diagnose(*finished, arms=["supervised+entropy"])} == {"supervised+entropy"}
    with pytest.raises(ConfigError, match=r"there is no arm 'supervised\+entropi'; did you mean 'supervised\+entropy'"):
        list(diagnose(*finished, arms=["supervised+entropi"]))


def test_a_cycle_without_a_query_is_refused(finished):
    with pytest.raises(ConfigError, match="no model of cycle 1 has finished with a query"):
        list(diagnose(*finished, cycle=1))


def test_ranks_agree_whatever_the_scale_and_leave_unknown_images_out():
    utilities = np.array([0.1, 0.2, 0.3, 0.9])
    assert rank_correlation(utilities, utilities**3) == pytest.approx(1)
    assert rank_correlation(utilities, -utilities) == pytest.approx(-1)
    assert rank_correlation(utilities, np.array([1, 2, np.nan, 3])) == pytest.approx(1)
    assert math.isnan(rank_correlation(utilities, np.ones(4)))


@pytest.fixture(scope="module")
def by_heart():
    """Scenes, and a detector that knows the first four of them by heart."""
    data = make_digit_scenes(16, n_classes=2, random_state=0)
    settings = {"max_steps": 150, "batch_size": 4, "optimizer": "adamw", "learning_rate": 0.004, "random_state": 0}
    return data, ObjectDetector("retinanet_tiny", data.classes, **settings).fit(data.X[:4], data.y[:4])


def test_the_truth_about_images_that_were_learnt_by_heart_is_good(by_heart):
    data, detector = by_heart
    truth = true_values(detector, data, np.arange(16))
    assert truth["boxes"].tolist() == [len(target["labels"]) for target in data.y]
    with_boxes = np.isfinite(truth["error"])
    assert with_boxes.tolist() == [len(target["labels"]) > 0 for target in data.y]
    assert np.nanmean(truth["error"][:4]) < 0.2 < np.nanmean(truth["error"][4:])
    assert truth["loss"][:4].mean() < truth["loss"][4:].mean()
    for x, target, loss in zip(data.X, data.y, truth["loss"], strict=True):
        with torch.inference_mode():
            alone = detector.network_([read_image(x).float() / 255], [training_target(target)])
        assert loss == float(sum(alone.loss.values()))


def test_the_error_of_an_image_with_difficult_objects_alone_is_unknown(by_heart):
    data, detector = by_heart
    y = data.y.copy()
    row = next(row for row in range(4) if len(y[row]["labels"]))
    y[row] = y[row] | {"difficult": np.ones(len(y[row]["labels"]), dtype=bool)}
    before, after = (true_values(detector, replace(data, y=targets), [row])["error"] for targets in (data.y, y))
    assert before[0] < 0.2 and math.isnan(after[0])
