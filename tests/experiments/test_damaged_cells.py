"""The files of a run's cells are input like any other: damage is named, and done again."""

import json
import random
import shutil

import pytest
from run_folder_damage import (
    CONTENTS,
    OF_A_CELL,
    PLACES,
    RANDOM,
    at_random,
    copy_of,
    damage,
    go_on,
    look,
    require_told,
    rewrite,
    without_checksums,
)
from tiny_experiment import TINY, bits, untimed, write_experiment

from miaod_plugin.errors import DataError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import adopt_training
from miaod_plugin.experiments.report.diagnosis import write_diagnosis
from miaod_plugin.experiments.report.page import write_report
from miaod_plugin.experiments.report.results import collect, write_results
from miaod_plugin.experiments.store.layout import Cell, Run, open_run
from miaod_plugin.experiments.store.records import read_record, survey, training_done


@pytest.mark.parametrize("kind", [*CONTENTS, *PLACES])
@pytest.mark.parametrize("name", OF_A_CELL[:3])
def test_results_never_change_silently_when_a_file_of_a_cell_is_damaged(finished, copied, name, kind):
    path = copied / RANDOM / "cycle1" / name
    assert damage(copied, path, kind, random.Random(0))
    expected = collect(open_run(finished[0]))
    rows, said = look(copied)
    require_told(rows, said, expected, path, kind)
    if name == "metrics.json" and kind == "removed":
        assert len(rows) == 16 and "cycle2" not in said, "not finished, and neither is what was built on it"
    else:
        assert str(path) in said
        gone = [row for row in expected if row not in rows]
        assert [(row["arm"], row["seed"], row["cycle"]) for row in gone] == [
            ("supervised+random", 1, 1),
            ("supervised+random", 1, 2),
        ]


def test_checksums_that_have_lost_a_line_are_what_is_named(copied):
    path = copied / RANDOM / "cycle1" / "SHA256SUMS"
    rewrite(path, "".join(line for line in path.read_text().splitlines(True) if "selected.csv" not in line))
    rows, said = look(copied)
    assert len(rows) == 16
    assert f"{path}: is damaged: it does not say what selected.csv holds" in said


@pytest.mark.parametrize("n_times", [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_damage_anywhere_is_told_or_changes_nothing(finished, tmp_path, n_times):
    expected, rng = collect(open_run(finished[0])), random.Random(n_times)
    for number in range(n_times):
        run = copy_of(finished[0], tmp_path / str(number))
        path, kind = at_random(run, rng)
        require_told(*look(run), expected, path.relative_to(run), kind)
        shutil.rmtree(tmp_path / str(number))


def test_results_report_and_diagnosis_leave_a_damaged_cell_out_and_say_so(copied, caplog):
    labelled = copied / RANDOM / "cycle1" / "labelled.txt"
    damage(copied, labelled, "a line twice", random.Random(0))
    write_results(open_run(copied))
    assert len(untimed(copied)) == 16
    page = write_report([copied])
    assert "2 of 22 cells are not finished" in " ".join(page.read_text().split())
    assert f"{labelled}: is damaged" in caplog.text
    caplog.clear()
    rows, _ = write_diagnosis(copied, cycle=1, arms=["supervised+random"])
    assert {row["seed"] for row in rows} == {0}
    assert f"{labelled}: is damaged" in caplog.text


def test_a_damaged_model_is_named_where_it_is_asked(copied):
    model = copied / RANDOM.replace("seed1", "seed0") / "cycle0" / "model.safetensors"
    damage(copied, model, "a flipped bit", random.Random(0))
    assert f"{model}: is damaged" in write_report([copied]).read_text().replace("<wbr>", "").replace("&#43;", "+")
    with pytest.raises(DataError, match=r"model\.safetensors: is damaged"):
        write_diagnosis(copied, cycle=0, arms=["supervised+random"])


def test_damaged_cells_are_done_again_and_the_run_ends_with_the_same_bits(finished, copied):
    rng, cells = random.Random(0), copied / "arms"
    damaged = {
        cells / "miaod+miaod" / "seed0" / "cycle0" / "metrics.json": "another digit",
        cells / "supervised+random" / "seed0" / "cycle1" / "selected.csv": "a line less",
        cells / "supervised+entropy" / "seed0" / "cycle1" / "labelled.txt": "another cell's",
        cells / "supervised+entropy" / "seed1" / "cycle2" / "losses.jsonl": "a flipped bit",
        cells / "miaod+miaod" / "seed1" / "cycle1" / "SHA256SUMS": "no UTF-8",
        copied / "shared" / "seed1" / "supervised" / "training.json": "cut short",
    }
    for path, kind in damaged.items():
        damage(copied, path, kind, rng)
    (cells / "supervised+random" / "seed1" / "cycle1" / "SHA256SUMS").unlink()  # a cell of an earlier version
    kept = {path: path.stat().st_mtime_ns for path in cells.glob("**/model.safetensors")}
    failures, printed = go_on(copied)
    assert failures == []
    lines = [line for line in printed.splitlines() if ": done again: " in line]
    assert len(lines) == len(damaged)
    for path in damaged:
        assert any(str(path) in line for line in lines), path
    assert untimed(copied) == untimed(finished[0])
    assert bits(copied) == bits(finished[0])
    again = {path.parent for path, changed in kept.items() if path.stat().st_mtime_ns != changed}
    assert again == {
        cells / "miaod+miaod" / "seed1" / "cycle1",  # nothing vouched for its training
        cells / "supervised+entropy" / "seed1" / "cycle2",  # its losses are part of its training
    }
    assert survey(open_run(copied)).damage == []
    shared = copied / "shared" / "seed1" / "supervised" / "model.safetensors"
    assert shared.samefile(cells / "supervised+random" / "seed1" / "cycle0" / "model.safetensors"), (
        "had back from an arm"
    )


def test_a_run_of_an_earlier_version_is_taken_as_it_is_but_for_what_cannot_be(copied):
    without_checksums(copied)
    expected = collect(open_run(copied))
    assert len(expected) == 18 and survey(open_run(copied)).damage == []
    last = next(row for row in expected if (row["arm"], row["seed"], row["cycle"]) == ("supervised+random", 1, 2))
    metrics = json.loads((copied / RANDOM / "cycle2" / "metrics.json").read_text())
    rewrite(copied / RANDOM / "cycle2" / "metrics.json", metrics | {"ap50": 7})
    assert collect(open_run(copied)) == [row for row in expected if row != last]


CELL = Cell(1, 1, "supervised", "supervised+random")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ap50": 7}, "metrics.json: ap50: 7: "),
        ({"ap50": float("inf")}, "metrics.json: ap50: inf: "),
        ({"train_seconds": float("nan")}, "metrics.json: train_seconds: nan: "),
        ({"ap50": "0.5"}, "metrics.json: ap50: '0.5': "),
        ({"seed": 0}, "metrics.json: seed: 0, but this cell has 1"),
        ({"arm": "supervised+entropy"}, "metrics.json: arm: 'supervised+entropy', but this cell has"),
        ({"cycle": 2}, "metrics.json: cycle: 2, but this cell has 1"),
        ({"training": "miaod"}, "metrics.json: training: 'miaod', but this cell has 'supervised'"),
        ({"budget": 8}, "metrics.json: budget: 8, but this cell has 7"),
        ({"images": 8}, "metrics.json: images: 8, but this cell has 7"),
        ({"boxes": 10**400}, "metrics.json: boxes: "),
        ({"train_seconds": -1.0}, "metrics.json: train_seconds: -1.0: "),
        ({"per_class": []}, "metrics.json: per_class: []: "),
        ({"per_class": {"one": 1.5}}, "metrics.json: per_class.one: 1.5: "),
    ],
)
def test_metrics_are_checked_where_no_checksum_vouches_for_them(copied, change, named):
    without_checksums(copied)
    path = copied / RANDOM / "cycle1" / "metrics.json"
    rewrite(path, json.loads(path.read_text()) | change)
    with pytest.raises(DataError) as refused:
        read_record(open_run(copied), CELL)
    assert named in str(refused.value)


def test_a_cell_that_is_scored_by_coco_s_average_precision_has_one(copied):
    coco = load_config(write_experiment(copied.parent, evaluation={"metric": "coco"}))
    with pytest.raises(DataError, match=r"metrics\.json: ap: missing, though the experiment is scored by it"):
        read_record(Run(coco, copied.parent), CELL)


@pytest.mark.parametrize("change", [{}, {"training": "miaod"}, {"seed": 0}, {"cycle": 2}, {"steps": -1}])
def test_a_training_of_another_cell_is_not_done_where_no_checksum_vouches_for_it(copied, change):
    without_checksums(copied)
    path = copied / RANDOM / "cycle1" / "training.json"
    done = json.loads(path.read_text()) | change
    rewrite(path, done)
    assert training_done(open_run(copied), CELL) == (None if change else done)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("labelled.txt", lambda lines: [*lines[:-1], lines[0]], "stands there 2 times"),
        ("labelled.txt", lambda lines: lines[:-1], "6 images, but metrics.json says 7"),
        ("selected.csv", lambda lines: [*lines[:-1], lines[1].replace("1,", "2,", 1)], "stands there 2 times"),
        ("selected.csv", lambda lines: [*lines[:-1], "2,{labelled},0.5"], "was labelled before"),
        ("selected.csv", lambda lines: [*lines[:-1], "2,x,much"], "the utility 'much' is not a number"),
        ("selected.csv", lambda lines: [*lines[:-1], "2,x,nan"], "the utility 'nan' is not a number"),
        ("selected.csv", lambda lines: [*lines[:-1], "3,x,1"], "the rank is '3'"),
        ("selected.csv", lambda lines: [*lines[:-1], "2,x"], "row 3 has 2 values for 3 columns"),
        ("selected.csv", lambda lines: ["id,rank,utility", *lines[1:]], "the columns are"),
    ],
)
def test_labelled_and_selected_images_are_checked_where_no_checksum_vouches_for_them(copied, name, change, named):
    without_checksums(copied)
    path = copied / RANDOM / "cycle1" / name
    first = (copied / RANDOM / "cycle1" / "labelled.txt").read_text().split()[0]
    rewrite(path, "".join(f"{line}\n" for line in change(path.read_text().splitlines())).replace("{labelled}", first))
    with pytest.raises(DataError, match=f"{name}: .*{named}"):
        read_record(open_run(copied), CELL)


def test_a_cycle_that_does_not_follow_from_the_one_before_is_damaged(copied):
    without_checksums(copied)
    path = copied / RANDOM / "cycle1" / "labelled.txt"
    lines = path.read_text().splitlines()
    rewrite(path, "".join(f"{line}\n" for line in [*lines[:-1], "somebody else's"]))
    (told,) = survey(open_run(copied)).damage
    assert told.endswith("labelled.txt: not what the cycle before it labelled and selected")


def test_a_model_that_was_trained_again_to_other_weights_starts_no_further_arm(copied):
    arms = [*TINY["arms"], {"training": "supervised", "strategy": "coreset"}]
    run = Run(load_config(write_experiment(copied.parent, arms=arms)), copied.parent)
    new = Cell(0, 0, "supervised", "supervised+coreset")
    shutil.copytree(run.folder(Cell(0, 0, "supervised")), run.folder(new), ignore=lambda *_: ["training.json"])
    sums = copied / "arms" / "supervised+entropy" / "seed0" / "cycle0" / "SHA256SUMS"
    adopt_training(run, new)
    assert (run.folder(new) / "training.json").exists()
    (run.folder(new) / "training.json").unlink()
    model = next(line for line in sums.read_text().splitlines() if line.endswith("model.safetensors"))
    rewrite(sums, sums.read_text().replace(model, f"{'0' * 64}  model.safetensors"))
    with pytest.raises(DataError, match=r"not to the weights that supervised\+entropy began with"):
        adopt_training(run, new)
