import io
import sys

import pytest
import yaml
from rich.console import Console
from test_schema import SHIPPED
from tiny_experiment import TINY, write_experiment

from miaod_plugin.cli.app import main
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.runner.plan import cycles_table, describe_pool, show_plan
from miaod_plugin.experiments.store.layout import Run

VOC = {"kind": "voc", "root": "no/such/folder", "train": {"split": "trainval"}, "test": {"split": "test"}}
SIZES = {"train": 1000, "test": 50, "image": [64, 96], "boxes": 2500}


def printed(show) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    show(console)
    return [" ".join(line.replace("│", " ").split()) for line in console.file.getvalue().splitlines()]


def test_the_papers_voc_protocol_is_planned_without_its_data(tmp_path):
    config = load_config(next(path for path in SHIPPED if path.stem == "voc_retinanet"))
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": str(tmp_path / "none")})})
    pool = describe_pool(config)
    lines = printed(lambda console: console.print(cycles_table(Run(config, tmp_path), pool)))
    # 26 passes over the labelled and 8 over the unlabelled images, at two a step
    assert [line for line in lines if line[:1].isdigit() and "arms x" not in line] == [
        f"{cycle} {827 + 413 * cycle} {new} {827 + 413 * cycle} {34 * -(-(827 + 413 * cycle) // 2):,}"
        for cycle, new in enumerate(["827 of `initial`", *["413"] * 6])
    ]
    assert lines[0].startswith("voc_retinanet: 16,551 training and 4,952 test images as data.sizes tells")
    assert any(line.startswith("5 arms x 3 seeds x 7 cycles = 105 cells, on top of 9 trainings") for line in lines)


@pytest.mark.parametrize(("unit", "budgets"), [("images", [100, 200]), ("boxes", [250, 500])])
def test_steps_are_measured_on_random_images_where_there_is_no_data(tmp_path, unit, budgets):
    changes = {"data": VOC | {"sizes": SIZES}, "budgets": budgets, "budget": {"unit": unit}, "full_supervision": True}
    config = load_config(write_experiment(tmp_path, **changes))
    lines = printed(lambda console: show_plan(config, tmp_path / "runs", console))
    about = "" if unit == "images" else "about "
    assert f"0 {budgets[0]} {about}100 at random {about}100 {12 * 25}" in lines
    assert f"1 {budgets[1]} {about}100 {about}200 {12 * 50}" in lines
    assert f"full all 1000 {12 * 250:,}" in lines
    times = {line.rsplit(" ", 4)[0]: line for line in lines if line.startswith("optimiser steps, ")}
    trained = {"miaod": 2 * (300 + 600), "supervised": 2 * (300 + 2 * 600), "full-supervision": 2 * 3000}
    for training, steps in trained.items():
        assert f"optimiser steps, {training} {steps:,} " in " ".join(times.values()) + " "
    assert any(line.startswith("pool images to rate, miaod+miaod 1,800 ") for line in lines), "once for each seed"
    assert any(line.startswith(f"test images to detect in {50 * 2 * (3 + 3)} ") for line in lines), "by each model once"
    assert "measured steps" in lines[-1]
    assert not (tmp_path / "runs").exists()


def test_a_training_whose_steps_take_long_is_left_early_and_its_detector_asked_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("miaod_plugin.experiments.runner.plan.SECONDS", 0.0)
    arms = [{"training": "supervised", "strategy": "random"}]
    config = load_config(write_experiment(tmp_path, data=VOC | {"sizes": SIZES}, arms=arms, budgets=[100, 200]))
    lines = printed(lambda console: show_plan(config, tmp_path / "runs", console))
    assert "by 2 measured steps" in lines[-1]  # of three, the first of which warms up


def test_a_missing_data_set_without_sizes_is_refused(tmp_path):
    config = load_config(write_experiment(tmp_path, data=VOC))
    with pytest.raises(DataError, match="no such folder"):
        show_plan(config, tmp_path)
    no_boxes = VOC | {"sizes": {**SIZES, "boxes": None}}
    config = load_config(write_experiment(tmp_path, data=no_boxes, budget={"unit": "seconds"}))
    with pytest.raises(ConfigError, match=r"data\.sizes\.boxes: missing; without the data, budgets in seconds need it"):
        show_plan(config, tmp_path)
    config = load_config(write_experiment(tmp_path, data=VOC | {"sizes": SIZES}, budgets=[4, 1001]))
    with pytest.raises(ConfigError, match=r"budgets: 1001 is larger than the 1000 images of data\.train"):
        show_plan(config, tmp_path)


def test_sizes_that_disagree_with_the_data_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["miaod", "data", "digits", "scenes", "--train", "12", "--test", "4"])
    with pytest.raises(SystemExit):
        main()
    data = {"kind": "voc", "root": "scenes", "train": {"split": "train"}, "test": {"split": "test"}, "sizes": SIZES}
    with pytest.raises(ConfigError, match=r"data\.sizes\.train: 1000, but the data set has 12 images"):
        describe_pool(load_config(write_experiment(tmp_path, data=data)))


def test_the_dry_run_counts_what_is_finished_and_changes_nothing(finished, monkeypatch, capsys):
    run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.glob("**/*")}
    monkeypatch.setattr(sys, "argv", ["miaod", "run", str(run / "config.yaml"), "--out", str(run.parent), "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "22 of 22 finished" in printed
    assert "about 0 s on this machine" in printed
    assert {path: path.stat().st_mtime_ns for path in run.glob("**/*")} == before
    assert yaml.safe_load((run / "config.yaml").read_text())["name"] == TINY["name"]
