"""Arms whose queries train first: MI-AOD's adversarial rounds on a copy of the model, or the others of a committee."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console
from tiny_experiment import run_tiny, write_experiment

from miaod_plugin import Committee
from miaod_plugin.experiments.config.sampling import random_state
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.config.trainings import load_estimator
from miaod_plugin.experiments.report.diagnosis import diagnose
from miaod_plugin.experiments.runner.plan import show_plan
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Cell, Run
from miaod_plugin.experiments.store.stored import read_json, read_lines
from miaod_plugin.mil.adapting import adapted_to
from miaod_plugin.strategies import CommitteeSampling, MIAODSampling

ARMS = [
    {"training": "label_set", "strategy": "miaod", "options": {"adapt": True}, "name": "adapted"},
    {"training": "label_set", "strategy": "miaod", "name": "as-it-is"},
    {"training": "label_set", "strategy": "committee", "options": {"members": 2}, "name": "committee"},
]
TRAININGS = {"label_set": {"label_epochs": 3, "rounds": 1}}
CHANGES = {"trainings": TRAININGS, "arms": ARMS, "seeds": [0], "budgets": [4, 7, 9], "jobs": 1}


@pytest.fixture(scope="module")
def adapting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapting")
    run_tiny(folder, **CHANGES)
    config = load_config(folder / "tiny.yaml")
    return Run(config, folder / "runs"), load_data(config)[0]


def cell_of(run: Run, arm: str, cycle: int) -> Cell:
    return Cell(0, cycle, run.trainings[arm], arm)


def test_an_arm_that_adapts_picks_what_a_copy_of_its_model_picks_after_the_adversarial_rounds(adapting):
    run, train = adapting
    for cycle in (0, 1):
        folder = run.folder(cell_of(run, "adapted", cycle))
        labelled = [train.ids.tolist().index(name) for name in read_lines(folder / "labelled.txt")]
        pool = np.setdiff1d(np.arange(len(train)), labelled)
        estimator = load_estimator(run.config, folder / "model.safetensors")
        assert estimator.max_steps == read_json(folder / "metrics.json")["steps"], "the cycle's own schedule"
        copy = adapted_to(estimator, train.X[pool], (train.X[labelled], train.y[labelled]))
        assert 0 < copy.n_steps_ < estimator.max_steps
        with open(folder / "selected.csv", newline="") as file:
            selected = list(csv.DictReader(file))
        expected, utilities = MIAODSampling(adapt=False).query(copy, train.X[pool], len(selected))
        assert [row["id"] for row in selected] == train.ids[pool[expected]].tolist()
        assert [float(row["utility"]) for row in selected] == pytest.approx(utilities.tolist())


def test_an_arm_picks_by_a_committee_of_its_model_and_one_trained_alike_with_another_seed(adapting):
    run, train = adapting
    folder = run.folder(cell_of(run, "committee", 0))
    labelled = [train.ids.tolist().index(name) for name in read_lines(folder / "labelled.txt")]
    pool = np.setdiff1d(np.arange(len(train)), labelled)
    estimator = load_estimator(run.config, folder / "model.safetensors")
    strategy = CommitteeSampling(members=2, random_state=random_state(0, "query", 0))
    known = train.X[labelled], train.y[labelled]
    members = strategy.prepared(estimator, train.X[pool], known).members
    assert [member.max_steps for member in members] == [estimator.max_steps] * 2
    assert members[0].random_state != members[1].random_state
    expected, utilities = strategy.select(Committee(members), train.X[pool], 3)
    with open(folder / "selected.csv", newline="") as file:
        selected = list(csv.DictReader(file))
    assert [row["id"] for row in selected] == train.ids[pool[expected]].tolist()
    assert [float(row["utility"]) for row in selected] == pytest.approx(utilities.tolist())


def test_arms_that_adapt_or_not_share_the_first_model_and_differ_in_what_they_pick(adapting):
    run, _ = adapting
    folders = [run.folder(cell_of(run, arm, 0)) for arm in ("adapted", "as-it-is")]
    models, picks = (
        [(folder / name).read_bytes() for folder in folders] for name in ("model.safetensors", "selected.csv")
    )
    assert models[0] == models[1] and picks[0] != picks[1]


def test_diagnose_asks_a_strategy_that_adapts_after_its_adversarial_rounds(adapting):
    rows = list(diagnose(*adapting, arms=["as-it-is"]))
    assert [row["strategy"] for row in rows] == ["miaod {'adapt': True}", "miaod", "committee {'members': 2}"]
    assert rows[0]["loss"] != rows[1]["loss"]
    assert {row["cycle"] for row in rows} == {1}, "the last one that ends in a query"


def test_the_plan_counts_the_optimiser_steps_of_queries(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    show_plan(load_config(write_experiment(tmp_path, **CHANGES)), tmp_path / "runs", console)
    lines = [" ".join(line.replace("│", " ").split()) for line in console.file.getvalue().splitlines()]
    # 12 label-set passes at 4 and 7 images, 1 and 2 batches each; as many steps of the whole schedule without its first
    # stage, which is 6 of 20 passes: label-set training, 4 of min, 4 of max, 6 of label-set training
    adapting = (12 - round(12 * 6 / 20)) + (24 - round(24 * 6 / 20))
    assert any(line.startswith(f"optimiser steps in queries, adapted {adapting} ") for line in lines)
    assert any(line.startswith(f"optimiser steps in queries, committee {12 + 24} ") for line in lines)
    assert not any(line.startswith("optimiser steps in queries, as-it-is") for line in lines)
