"""Reports on runs that are small, large, unfinished or without scores: nothing breaks, nothing misleads."""

import io
import json
import math
import re
import shutil
import warnings
from pathlib import Path

import pytest
import yaml
from page_reader import Page
from pages import ARMS, copy_run
from rich.console import Console
from tiny_experiment import run_tiny

from miaod_plugin.data import make_digit_scenes, write_coco
from miaod_plugin.experiments.report.page import open_run, write_report
from miaod_plugin.experiments.report.results import results_table
from miaod_plugin.experiments.report.tables import best


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run without its models, whose pictures need not be drawn here."""
    run = copy_run(finished, tmp_path)
    for model in run.glob("**/model.safetensors"):
        model.unlink()
    return run


def change(run: Path, **config) -> None:
    stored = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(stored | config))


def rescore(run: Path, places: str, **metrics) -> None:
    for path in run.glob(f"{places}/metrics.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | metrics))


def report(run: Path) -> Page:
    """Write the report without a warning, and check that no number on it is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = Page(write_report([run]))
    shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|<pre>.*?</pre>", "", page.source, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|inf)\b", shown)
    return page


def test_one_arm_one_seed_and_one_budget(run):
    change(run, seeds=[0], budgets=[4], arms=yaml.safe_load((run / "config.yaml").read_text())["arms"][1:2])
    page = report(run)
    assert "1 arm, 1 seed, 1 budget" in page.text
    for words in ("Best mean", "needed for the last", "Differences to", "mean over seeds", "Areas are"):
        assert words not in page.text


def test_an_arm_all_of_whose_cycles_failed_is_named(run):
    shutil.rmtree(run / "arms" / "supervised+entropy")
    page = report(run)
    assert "There is no score yet of supervised+entropy." in page.text
    assert not any(row[0] == "supervised+entropy" for row in page.tables[0])


def test_without_objects_to_find_there_are_no_scores_but_a_page(run):
    rescore(run, "arms/**", ap50=math.nan, per_class={"0": None, "1": None, "2": None})
    page = report(run)
    assert "There is no average precision, because the test images hold no object that counts." in page.text
    assert "There is no score to draw." in page.text and "Differences to" not in page.text
    assert page.row(0, "supervised+random") == ["\N{EN DASH}"] * 4


def test_the_terminal_shows_a_dash_for_scores_that_are_not_there(run):
    rescore(run, "arms/supervised+random/**", ap50=math.nan)
    console = Console(file=io.StringIO(), width=200)
    console.print(results_table(open_run(run)))
    line = next(line for line in console.file.getvalue().splitlines() if "supervised+random" in line)
    assert line.count(" - ") == 3 and "nan" not in console.file.getvalue()


def test_a_run_whose_test_images_hold_no_objects_ends_with_a_page(tmp_path):
    scenes = make_digit_scenes(6, n_classes=3, random_state=0)
    write_coco(scenes, tmp_path)
    annotations = tmp_path / "instances_train.json"
    content = json.loads(annotations.read_text())
    (tmp_path / "test.json").write_text(json.dumps(content | {"annotations": []}))
    parts = {"train": annotations, "test": tmp_path / "test.json"}
    images = str(tmp_path / "images" / "train")
    data = {"kind": "coco"} | {name: {"annotations": str(path), "images": images} for name, path in parts.items()}
    arms = [{"training": "supervised", "strategy": "random"}]
    run, _ = run_tiny(tmp_path, data=data, arms=arms, budgets=[2, 3], seeds=[0], jobs=1)
    assert "There is no average precision" in Page(run / "report.html").text
    assert list((run / "tensorboard").rglob("*tfevents*"))


def test_an_arm_without_a_score_does_not_hide_the_others(run):
    rescore(run, "arms/supervised+random/**", ap50=math.nan)
    page = report(run)
    assert "There is no score yet of supervised+random." in page.text
    assert page.row(0, "supervised+random") == ["\N{EN DASH}"] * 4
    assert "\N{EN DASH}" not in page.row(0, "supervised+entropy")
    assert "needed for the last" not in page.text  # there is nothing to compare with


def test_full_supervision_of_some_seeds_says_of_how_many(run):
    change(run, full_supervision=True)
    folder = run / "shared" / "seed0" / "full-supervision"
    shutil.copytree(folder.with_name("supervised"), folder)
    rescore(run, "shared/seed0/full-supervision", ap50=0.5, training="full-supervision", budget=None)
    assert report(run).row(0, "Full supervision")[0] == "50.0 with all 24 images (1 seed)"


def test_scores_that_are_all_zero_have_axes_and_no_best(run):
    rescore(run, "arms/**", ap50=0.0)
    page = report(run)
    assert "class=best" not in page.source
    assert page.row(1, "miaod+miaod") == ["from the start", "\N{EN DASH}"]


def test_ten_arms_with_very_long_names(run):
    arms = yaml.safe_load((run / "config.yaml").read_text())["arms"]
    for number in range(7):
        name = f"{number}_" + "a-very-long-name-" * 6
        shutil.copytree(run / "arms" / ARMS[number % 3], run / "arms" / name)
        rescore(run, f"arms/{name}/**", arm=name)
        arms.append(arms[number % 3] | {"name": name})
    change(run, arms=arms)
    page = report(run)
    assert "10 arms" in page.text and len(page.tables[0]) == 11
    assert "\N{HORIZONTAL ELLIPSIS}" in (run / "curves.svg").read_text(encoding="utf-8")


def test_the_best_is_none_that_fewer_seeds_speak_for():
    rows = [{"n": 3, "mean": 0.4}, {"n": 3, "mean": 0.5}, {"n": 1, "mean": 0.9}, {"n": 0, "mean": None}]
    assert best(rows) == rows[1:2]
    assert best(rows[1:2]) == best([]) == best(rows[3:]) == best([rows[0], rows[0]]) == []
