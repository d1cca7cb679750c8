"""Budgets that count boxes or seconds: an image is annotated whole, so that what it costs shows only on the way."""

import csv
import json
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_experiment import run_tiny, untimed, write_experiment

from miaod_plugin import LabelSet, ObjectDetector
from miaod_plugin.baselines import EntropySampling
from miaod_plugin.cli.app import app
from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import Experiment, query, run_cycle
from miaod_plugin.experiments.report.diagnosis import write_diagnosis
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Cell, Run

ARMS = [{"training": "miaod", "strategy": "miaod"}, {"training": "supervised", "strategy": "random"}]


@pytest.fixture(scope="module")
def overshot(tmp_path_factory):
    """A run whose first image or two reach three budgets, and whose last budgets are all boxes but one, and all."""
    folder = tmp_path_factory.mktemp("overshot")
    total = load_data(load_config(write_experiment(folder)))[0]
    total = sum(len(target["labels"]) for target in total.y)
    budgets = [1, 2, 3, total - 1, total]
    run, _ = run_tiny(folder, arms=ARMS, seeds=[0, 1], budgets=budgets, budget={"unit": "boxes"})
    return run, budgets


def picks(folder) -> list[str]:
    with open(folder / "selected.csv", newline="") as file:
        assert file.readline() == "rank,id,utility\n"
        return [line.split(",")[1] for line in file]


def test_a_budget_that_the_last_image_overshoots_picks_nothing_and_trains_again(overshot):
    run, budgets = overshot
    rows = untimed(run)
    assert [int(row["budget"]) for row in rows] == budgets * 4, "no cycle of any arm and seed is missing"
    reached = 0
    for before, row in pairwise(rows):
        folder = run / "arms" / before["arm"] / f"seed{before['seed']}" / f"cycle{before['cycle']}"
        if before["cycle"] == "4":
            continue
        assert float(row["spent"]) >= int(row["budget"])
        assert (
            (picks(folder) == [])
            == (float(before["spent"]) >= int(row["budget"]))
            == (before["images"] == row["images"])
        )
        if not picks(folder):
            reached += 1
            assert json.loads((folder / "metrics.json").read_text())["query_seconds"] is None, "nobody was asked"
            following = folder.with_name(f"cycle{row['cycle']}")
            assert (folder / "labelled.txt").read_text() == (following / "labelled.txt").read_text()
            assert (folder / "model.safetensors").read_bytes() != (following / "model.safetensors").read_bytes()
    assert reached > 4


def test_arms_that_have_reached_a_budget_train_as_long_as_those_that_have_not(overshot):
    steps = {}
    for row in untimed(overshot[0]):
        steps.setdefault(row["budget"], set()).add(row["steps"])
    assert all(len(of_budget) == 1 for of_budget in steps.values())


def test_miaod_trains_without_unlabelled_images_where_all_are_labelled(tmp_path):
    config = load_config(write_experiment(tmp_path, arms=ARMS[:1], seeds=[0], budgets=[4, 24]))
    run = Run(config, tmp_path / "runs")
    experiment = Experiment(config, run, *load_data(config))
    for cell in (*run.shared_cells(), *run.arm_cells()):
        run_cycle(experiment, cell, lambda *_: None)
    cycle = run.folder(cell)
    assert (cycle / "unlabelled.txt").read_text() == ""
    rounds = {json.loads(line)["round"] for line in (cycle / "losses.jsonl").read_text().splitlines()}
    assert rounds == {"label"}


def test_the_report_takes_cycles_that_picked_nothing(overshot, capsys):
    run, _ = overshot
    with pytest.raises(SystemExit) as ended:
        app(["report", str(run)])
    assert ended.value.code == 0
    page = (run / "report.html").read_text()
    assert "cycle" in page and "NaN" not in page
    events = EventAccumulator(str(run / "tensorboard" / "miaod+miaod" / "seed0")).Reload()
    assert len(events.Scalars("by labelled images/AP50")) == 5


def test_arms_whose_initial_set_is_everything_can_be_reported(tmp_path):
    data = {"kind": "digits", "train": 5, "test": 4, "n_classes": 3}
    train, _ = load_data(load_config(write_experiment(tmp_path, data=data, budgets=[1])))
    total = sum(len(target["labels"]) for target in train.y)
    arms = [ARMS[1], ARMS[1] | {"name": "again"}]
    budget = {"budgets": [total - 1, total], "budget": {"unit": "boxes"}}  # the last image drawn has several boxes
    run, _ = run_tiny(tmp_path, arms=arms, seeds=[0], data=data, **budget)
    assert [row["images"] for row in untimed(run)] == ["5"] * 4
    with pytest.raises(ConfigError, match=r"no image was left to score \(try an earlier --cycle\)"):
        write_diagnosis(run)


class Counting(ObjectDetector):
    """Counts how often it passes over how many images, and how often a copy of it is trained on."""

    passes: ClassVar[list[int]] = []
    adapted: ClassVar[list[int]] = []

    def map_pool(self, X, reducers):
        self.passes.append(len(X))
        return super().map_pool(X, reducers)

    def trained_further(self, stages, X, y, unlabeled):
        self.adapted.append(len(unlabeled))
        return super().trained_further(stages, X, y, unlabeled)


@pytest.mark.parametrize("strategy", ["miaod", "entropy", "coreset"])
def test_a_query_passes_over_the_pool_once_however_cheap_the_images_are(tmp_path, strategy):
    options = {"adapt": True} if strategy == "miaod" else {}
    arm = {"training": "label_set", "strategy": strategy, "options": options, "name": "arm"}
    train, test = load_data(load_config(write_experiment(tmp_path)))
    costs = np.array([len(target["labels"]) for target in train.y])
    labelled = np.argsort(-costs)[:3]  # what is left is cheaper
    budgets = [int(costs[labelled].sum()), int(costs[labelled].sum()) + 30]
    config = load_config(write_experiment(tmp_path, arms=[arm], budgets=budgets, budget={"unit": "boxes"}))
    run = Run(config, tmp_path / "runs")
    cell = Cell(0, 0, run.trainings["arm"], "arm")

    estimator = Counting("retinanet_tiny", train.classes, training=LabelSet(), max_steps=12, random_state=0)
    estimator.fit(train.X[labelled], train.y[labelled])
    Counting.passes.clear(), Counting.adapted.clear()
    query(Experiment(config, run, train, test), cell, estimator, labelled, lambda *_: None)
    n_pool = len(train) - len(labelled)
    assert [n for n in Counting.passes if n == n_pool] == [n_pool]
    assert Counting.adapted == [n_pool] * (strategy == "miaod")
    with open(run.folder(cell) / "selected.csv", newline="") as file:
        picked = [train.ids.tolist().index(row["id"]) for row in csv.DictReader(file)]
    assert 30 <= costs[picked].sum() < 30 + costs[picked[-1]], "the image that reaches the budget is the last"
    assert len(picked) > 30 / costs[labelled].mean()


def test_a_query_takes_the_best_of_the_pool_until_the_next_budget_is_reached_exactly_or_overshot(tmp_path):
    annotation = {"unit": "seconds", "per_image": 2, "per_box": 1}
    train, test = load_data(load_config(write_experiment(tmp_path)))
    costs = np.array([2 + len(target["labels"]) for target in train.y])
    labelled, spent = np.array([11, 0, 5]), int(costs[[11, 0, 5]].sum())
    pool = np.array([row for row in range(len(train)) if row not in labelled])
    estimator = ObjectDetector("retinanet_tiny", train.classes, max_steps=3, random_state=0)
    estimator.fit(train.X[labelled], train.y[labelled])
    utilities = EntropySampling(over="instances").utilities(estimator, train.X[pool])
    best = pool[np.argsort(-utilities, kind="stable")]
    third = int(costs[best[:3]].sum())
    for to_spend, n_picked in ((third - 1, 3), (third, 3), (third + 1, 4)):
        arm = {"training": "supervised", "strategy": "entropy", "options": {"over": "instances"}, "name": "arm"}
        changes = {"arms": [arm], "budgets": [spent, spent + to_spend], "budget": annotation}
        config = load_config(write_experiment(tmp_path, **changes))
        run = Run(config, tmp_path / "runs")
        cell = Cell(0, 0, run.trainings["arm"], "arm")
        query(Experiment(config, run, train, test), cell, estimator, labelled, lambda *_: None)
        with open(run.folder(cell) / "selected.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == train.ids[best[:n_picked]].tolist()
        assert [float(row["utility"]) for row in rows] == sorted(utilities, reverse=True)[:n_picked]
