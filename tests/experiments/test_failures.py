"""What goes wrong in one cell stops that cell with a clear message, and nothing else."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import miaod
from rich.console import Console
from tiny_experiment import TINY, bits, run_tiny, untimed, write_experiment

from miaod_plugin.cli.app import main
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.runner.run import run_experiment

ONE_SEED = {"seeds": [0], "budgets": [4, 7], "jobs": 1}


def run(yaml: Path, out: Path) -> tuple[dict[str, str], str]:
    """Run an experiment; return the message of each failed cell and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    failures = run_experiment(load_config(yaml), out, console=console)
    return {str(failure.cell): failure.message for failure in failures}, console.file.getvalue()


def arms_and_cycles(run: Path) -> set[tuple[str, str]]:
    return {(row["arm"], row["cycle"]) for row in untimed(run)}


def test_a_loss_that_is_not_finite_stops_the_arms_that_share_the_training(tmp_path):
    steep = {**TINY["trainings"]["miaod"], "options": {"discrepancy_weight": 3e38}}
    yaml = write_experiment(tmp_path, **ONE_SEED, trainings={"miaod": steep}, arms=TINY["arms"][:2])
    failed, printed = run(yaml, tmp_path / "runs")
    assert list(failed) == ["seed 0  shared miaod  cycle 0"]
    message = failed["seed 0  shared miaod  cycle 0"]
    assert message.startswith("the loss is not finite at step ")
    assert message.endswith("lower learning_rate or set max_grad_norm")
    assert f"seed 0  shared miaod  cycle 0: stopped: {message}" in printed
    finished = tmp_path / "runs" / "tiny"
    assert arms_and_cycles(finished) == {("supervised+random", "0"), ("supervised+random", "1")}
    stored = json.loads((finished / "shared" / "seed0" / "miaod" / "error.json").read_text())
    assert (stored["error"], stored["message"]) == ("TrainingError", message)


def test_an_unreadable_image_stops_only_the_arms_that_read_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["miaod", "data", "digits", "scenes", "--train", "24", "--test", "4"])
    with pytest.raises(SystemExit):
        main()
    data = {"kind": "voc", "root": "scenes", "train": {"split": "train"}, "test": {"split": "test"}}
    arms = TINY["arms"][1:]
    yaml = write_experiment(tmp_path, **ONE_SEED | {"budgets": [4]}, data=data, arms=arms)
    assert run(yaml, "runs")[0] == {}
    labelled = Path("runs/tiny/arms/supervised+random/seed0/cycle0/labelled.txt").read_text().split()

    # Random selection opens no image but those that it picks: break one that it does not.
    probe = write_experiment(tmp_path, **ONE_SEED, data=data, arms=arms[:1])
    assert run(probe, "probe")[0] == {}
    picked = Path("probe/tiny/arms/supervised+random/seed0/cycle1/labelled.txt").read_text().split()
    victim = next(path for path in sorted(Path("scenes/JPEGImages").glob("*train*")) if path.stem not in picked)
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])

    yaml = write_experiment(tmp_path, **ONE_SEED, data=data, arms=arms)
    failed, _ = run(yaml, "runs")
    assert list(failed) == ["seed 0  supervised+entropy  cycle 0"]
    assert str(victim) in failed["seed 0  supervised+entropy  cycle 0"]
    assert "does not decode" in failed["seed 0  supervised+entropy  cycle 0"]
    assert ("supervised+random", "1") in arms_and_cycles(Path("runs/tiny"))
    victim.write_bytes(content)
    assert run(yaml, "runs")[0] == {}
    assert len(arms_and_cycles(Path("runs/tiny"))) == 4
    assert set(labelled) <= set(picked)


# A file system of a few megabytes in a name space of its own: neither needs to be root nor leaves anything behind.
SMALL_DISK = """
set -e
mount -t tmpfs -o size=$1 tmpfs runs
set +e
"$2" -m miaod_plugin run tiny.yaml > first.txt 2> first.err; echo $? > first.rc
find runs -name '.*part*' > parts.txt
cp -r runs/tiny half
mount -o remount,size=500m runs
"$2" -m miaod_plugin run tiny.yaml > second.txt 2> second.err; echo $? > second.rc
cp -r runs/tiny whole
"""


def can_mount() -> bool:
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a kernel that lets users mount")
def test_a_full_disk_keeps_what_is_finished_and_the_run_goes_on_when_there_is_room(finished, tmp_path):
    write_experiment(tmp_path)
    (tmp_path / "runs").mkdir()
    command = ["unshare", "-Urm", "sh", "-c", SMALL_DISK, "sh", "4m", sys.executable]
    ended = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    read = {path.name: path.read_text() for path in tmp_path.glob("*.*")}
    assert read["first.rc"].strip() == "1"
    assert "no space left on the disk of runs/tiny; make room and run the same command again" in read["first.err"]
    assert "Traceback" not in read["first.err"]
    assert read["parts.txt"] == ""
    kept = {path.relative_to(tmp_path / "half") for path in (tmp_path / "half").glob("arms/**/metrics.json")}
    assert 0 < len(kept) < 18
    for path in (tmp_path / "half").glob("**/*.json"):
        json.loads(path.read_text())
    assert read["second.rc"].strip() == "0", read["second.err"]
    assert untimed(tmp_path / "whole") == untimed(finished[0])
    assert bits(tmp_path / "whole") == bits(finished[0])


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path):
    yaml = write_experiment(tmp_path, **ONE_SEED)
    (tmp_path / "runs").write_text("not a folder")
    ended = miaod("run", yaml, "--out", tmp_path / "runs", capture_output=True, text=True)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert str(tmp_path / "runs") in ended.stderr


def test_a_damaged_half_trained_fit_is_done_again_from_its_first_step(finished, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "runs" / "tiny")
    cell = run / "arms" / "supervised+random" / "seed1" / "cycle2"
    for name in ("training.json", "model.safetensors", "metrics.json"):
        (cell / name).unlink()
    (cell / "half_trained.ckpt").write_bytes(b"damaged")
    run_tiny(tmp_path)
    assert not (cell / "half_trained.ckpt").exists()
    assert untimed(run) == untimed(finished[0])
    assert bits(run) == bits(finished[0])
