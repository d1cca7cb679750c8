"""What belongs to a run's folder: its own files are checked, and what is not its own is left alone."""

import random
import shutil
import subprocess
import sys

import pytest
from run_folder_damage import OWN, RANDOM, damage, go_on
from tiny_experiment import untimed, write_experiment

from miaod_plugin.errors import ConfigError, DataError, MiaodError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.report.event_files import EventFiles
from miaod_plugin.experiments.report.page import write_report
from miaod_plugin.experiments.report.results import write_results
from miaod_plugin.experiments.store.layout import Run, open_run
from miaod_plugin.experiments.store.listing import is_locked, list_runs


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
