"""The selections of a run, trained on with a second detector."""

import io
import json
import shutil
from pathlib import Path

import pytest
from page_reader import Page
from rich.console import Console
from run_folder_damage import copy_of
from tiny_experiment import TINY, write_experiment

from miaod_plugin.errors import DataError, MiaodError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import Experiment, run_cycle
from miaod_plugin.experiments.report.page import write_report
from miaod_plugin.experiments.runner.plan import describe_pool, measure, times_table
from miaod_plugin.experiments.runner.run import run_experiment
from miaod_plugin.experiments.store.datasets import describe, load_data
from miaod_plugin.experiments.store.layout import Cell, Run
from miaod_plugin.experiments.store.replay import take_over

CHANGES = {
    "name": "second",
    "detector": {"name": "retinanet_tiny", "options": {"width": 8, "fpn_channels": 16}},
    "training": {"batch_size": 4, "max_steps": 2},
    "budgets": TINY["budgets"][:2],
    "seeds": [1],
    # what MI-AOD picked for itself can be trained on by those who could not have picked it
    "arms": [*TINY["arms"][1:], {"training": "supervised", "strategy": "miaod", "name": "miaod+miaod"}],
}
ARMS = ["supervised+random", "supervised+entropy", "miaod+miaod"]


@pytest.fixture(scope="module")
def second(finished, tmp_path_factory) -> Experiment:
    """A finished run of another detector that replays the tiny one, done in this process."""
    folder = tmp_path_factory.mktemp("second")
    config = load_config(write_experiment(folder, **CHANGES, replay=str(finished[0])))
    train, test = load_data(config)
    run = Run(config, folder / "runs")
    run.claim({"train": describe(train), "test": describe(test)})
    experiment = Experiment(config, run, train, test)
    for cell in (*run.shared_cells(), *run.arm_cells()):
        run_cycle(experiment, cell, lambda *_: None)
    return experiment


def files(run: Path, arm: str, cycle: int) -> Path:
    return run / "arms" / arm / "seed1" / f"cycle{cycle}"


def test_each_arm_is_trained_on_what_the_arm_of_its_name_selected(finished, second):
    for arm in ARMS:
        theirs, ours = ([files(root, arm, cycle) for cycle in range(2)] for root in (finished[0], second.run.root))
        assert (ours[0] / "selected.csv").read_bytes() == (theirs[0] / "selected.csv").read_bytes()
        for their, our in zip(theirs, ours, strict=True):
            assert (our / "labelled.txt").read_bytes() == (their / "labelled.txt").read_bytes()
            assert (our / "model.safetensors").read_bytes() != (their / "model.safetensors").read_bytes()
        assert json.loads((ours[0] / "metrics.json").read_text())["query_seconds"] is None, "nobody was asked"


def test_a_cycle_that_was_stopped_goes_on_with_the_same_selection(finished, second, tmp_path):
    copied = Run(second.config, copy_of(second.run.root, tmp_path).parent)
    arm, cell = ARMS[1], Cell(1, 0, "supervised", ARMS[1])
    metrics = json.loads((files(copied.root, arm, 0) / "metrics.json").read_text())
    for name in ("metrics.json", "selected.csv", "SHA256SUMS"):
        (files(copied.root, arm, 0) / name).unlink()
    run_cycle(Experiment(second.config, copied, second.train, second.test), cell, lambda *_: None)
    assert json.loads((files(copied.root, arm, 0) / "metrics.json").read_text()) == metrics
    selected = [files(root, arm, 0) / "selected.csv" for root in (copied.root, finished[0])]
    assert selected[0].read_bytes() == selected[1].read_bytes()


def test_the_report_says_where_the_selections_are_from(finished, second, tmp_path):
    copied = copy_of(second.run.root, tmp_path)
    for model in copied.glob("**/model.safetensors"):
        model.unlink()  # no pictures
    page = Page(write_report([copied]))
    assert f"made in {finished[0]}; here they are only trained on" in page.text


def test_a_plan_rates_no_images_as_nobody_is_asked(second):
    pool = describe_pool(second.config)
    speed = measure(second.config, pool)
    assert speed.step.keys() == {"supervised"} and not speed.query
    console = Console(file=io.StringIO(), width=200)
    console.print(times_table(Run(second.config, "nowhere"), pool, speed))
    assert "optimiser steps, supervised" in console.file.getvalue() and "to rate" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {**TINY["data"], "train": 23}}, "began with other data: train is not the same"),
        ({"budgets": [4, 8]}, r"budgets \[4, 7, 9\]; give those, or the first of them"),
        ({"budgets": [4, 7], "budget": {"unit": "boxes"}}, "began with other data: initial.seed1 is not the same"),
        ({"seeds": [1, 5]}, "has no seed 5; it has 0, 1"),
        ({"arms": [{"training": "miaod", "strategy": "random"}]}, r"has no arm 'miaod\+random'"),
        (
            {"arms": [{"training": "supervised", "strategy": "coreset", "name": "supervised+entropy"}]},
            r"another strategy, or options, for 'supervised\+entropy'; give 'entropy'",
        ),
        ({"replay": "nothing/here"}, r"nothing/here: not the folder of a run \(no config.yaml\)"),
    ],
    ids=["data", "budgets", "unit", "seed", "arm", "strategy", "folder"],
)
def test_a_run_that_does_not_fit_is_refused_in_one_line_before_anything_is_written(
    finished, tmp_path, changes, message
):
    config = load_config(write_experiment(tmp_path, **CHANGES | {"replay": str(finished[0])} | changes))
    with pytest.raises(MiaodError, match=message) as refused:
        run_experiment(config, tmp_path / "runs")
    assert "\n" not in str(refused.value) and not (tmp_path / "runs").exists()


def test_a_selection_that_is_not_there_yet_is_named(copied, tmp_path):
    shutil.rmtree(copied / "arms" / ARMS[1] / "seed1" / "cycle1")
    longer = CHANGES | {"budgets": TINY["budgets"], "replay": str(copied)}
    config = load_config(write_experiment(tmp_path, **longer))
    with pytest.raises(MiaodError, match=r"has not finished seed 1  supervised\+entropy  cycle 1; go on with it first"):
        run_experiment(config, tmp_path / "out")


def test_a_run_that_has_labelled_other_images_since_is_not_replayed(second):
    cell = Cell(1, 0, "supervised", ARMS[0])
    with pytest.raises(DataError, match="has labelled other images"):
        take_over(second.run, cell, ["another"])
