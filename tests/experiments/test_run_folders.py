"""The files of a run are input like any other: damage is named, and what is not the run's own is left alone."""

import io
import json
import os
import random
import shutil
import subprocess
import sys

import pytest
from rich.console import Console
from run_folder_damage import CONTENTS, OF_A_CELL, OWN, PLACES, at_random, copy_of, damage, look, require_told
from tiny_experiment import TINY, bits, untimed, write_experiment

from miaod_plugin.errors import ConfigError, DataError, MiaodError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.cycle.cycle import adopt_training
from miaod_plugin.experiments.report.diagnosis import write_diagnosis
from miaod_plugin.experiments.report.event_files import EventFiles
from miaod_plugin.experiments.report.page import write_report
from miaod_plugin.experiments.report.results import collect, write_results
from miaod_plugin.experiments.runner.run import run_experiment
from miaod_plugin.experiments.store.layout import Cell, Run, open_run
from miaod_plugin.experiments.store.listing import is_locked, list_runs
from miaod_plugin.experiments.store.records import read_record, survey

RANDOM = os.path.join("arms", "supervised+random", "seed1")


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run; change none of its files in place."""
    return copy_of(finished[0], tmp_path)


def go_on(run, **changes) -> tuple[list, str]:
    """Start a copied run again; return the failures and what was printed."""
    console = Console(file=io.StringIO(), width=400)
    config = load_config(write_experiment(run.parent, **changes))
    return run_experiment(config, run.parent, console=console), console.file.getvalue()


def rewrite(path, content) -> None:
    path.unlink()
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def without_checksums(run) -> None:
    """Make a run one of an earlier version."""
    for path in run.glob("**/SHA256SUMS"):
        path.unlink()


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


@pytest.mark.parametrize("kind", ["a flipped bit", "cut short", "no UTF-8", "nested without end", "a folder", "a link"])
@pytest.mark.parametrize("name", OWN)
def test_damage_to_the_run_s_own_files_is_one_line(copied, name, kind, caplog):
    damage(copied, copied / name, kind, random.Random(1))
    for look_at in (lambda: write_results(open_run(copied)), lambda: go_on(copied, budgets=[4, 7, 10])):
        try:
            look_at()
        except MiaodError as error:
            assert "\n" not in str(error)
            refused = str(error)
    assert name in refused or "budgets" in refused
    (state,) = list_runs(copied.parent)
    assert state.state in ("finished", "unreadable")


def test_a_damaged_experiment_is_refused_and_a_damaged_environment_left_out(copied, caplog):
    damage(copied, copied / "environment.json", "another digit", random.Random(0))
    write_report([copied])
    assert "environment.json: is damaged: SHA256SUMS says that it held something else" in caplog.text
    damage(copied, copied / "config.yaml", "another digit", random.Random(0))
    with pytest.raises(DataError, match=r"config.yaml: is damaged: .* remove .*SHA256SUMS to take its files"):
        write_report([copied])
    (copied / "SHA256SUMS").unlink()
    assert open_run(copied).config.name


def test_results_without_their_experiment_are_not_taken_over(copied):
    (copied / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"has results but no config\.yaml"):
        go_on(copied)


def test_files_that_are_not_the_run_s_own_stay(copied):
    foreign = [
        copied / "notes.txt",
        copied / ".notes.partial.txt",
        copied / RANDOM / "cycle0" / ".metrics.json.mine.part.json",
        copied / RANDOM / "cycle0" / "notes.txt",
        copied / "tensorboard" / "mine" / "events.out.tfevents.1.host",
        copied / "tensorboard" / "supervised+random" / "seed0" / "events.out.tfevents.1.host",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    run = open_run(copied)
    experiment = type("Experiment", (), {"run": run})
    EventFiles(experiment)
    assert not list(copied.glob("tensorboard/**/*.miaod")), "the run's own are written anew"
    with run.locked():
        run.claim(
            {"train": {"images": 1, "boxes": 1, "sha256": ""}, "test": {"images": 1, "boxes": 1, "sha256": ""}},
            fresh=True,
        )
    assert all(path.read_text() == "mine" for path in foreign)
    left = {path for path in copied.glob("**/*") if path.is_file()}
    assert left == {*foreign, *(copied / name for name in ("lock", "config.yaml", "data.json", "SHA256SUMS"))}


@pytest.mark.parametrize(
    "name", ["lock", "config.yaml", "run.log", "results.csv", "arms", RANDOM, f"{RANDOM}/cycle1", "tensorboard"]
)
def test_links_that_lead_out_of_a_run_are_not_followed(copied, tmp_path, name):
    outside = tmp_path / "outside"
    shutil.move(copied / name, outside)
    (copied / name).symlink_to(outside)
    before = {path: path.read_bytes() for path in [outside, *outside.glob("**/*")] if path.is_file()}
    run = Run(load_config(write_experiment(tmp_path)), copied.parent)
    with pytest.raises(DataError, match=f"{(copied / name).name}: is a link"), run.locked():
        EventFiles(type("Experiment", (), {"run": run}))
        run.claim({}, fresh=True)
    assert {path: path.read_bytes() for path in before} == before
    assert (copied / name).is_symlink()


def test_a_cell_behind_a_link_is_refused_and_the_others_go_on(copied, tmp_path):
    losses, cell = copied / RANDOM / "cycle1" / "losses.jsonl", copied / RANDOM.replace("seed1", "seed0") / "cycle2"
    (losses.with_name("metrics.json")).unlink()
    for path in (losses, cell):
        shutil.move(path, tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    before = {path: path.read_bytes() for path in [tmp_path / "losses.jsonl", *(tmp_path / "cycle2").iterdir()]}
    (copied / "arms" / "miaod+miaod" / "seed0" / "cycle2" / "metrics.json").unlink()
    failures, _ = go_on(copied)
    assert {(str(failure.cell), failure.message.partition(": is a link")[0]) for failure in failures} == {
        ("seed 1  supervised+random  cycle 1", str(losses)),
        ("seed 0  supervised+random  cycle 2", str(cell)),
    }
    assert {path: path.read_bytes() for path in before} == before
    assert len(untimed(copied)) == 15


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


def test_asking_for_the_lock_makes_none_and_a_process_that_is_killed_leaves_none(tmp_path):
    lock = tmp_path / "lock"
    assert not is_locked(lock) and not lock.exists()
    hold = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    assert is_locked(lock)
    process.kill()
    process.communicate()
    assert not is_locked(lock)
