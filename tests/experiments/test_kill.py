"""A run that is killed again and again ends with the bits of one that never was."""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from processes import descendants, start, wait_for_end
from safetensors.numpy import load_file
from tiny_experiment import TINY, bits, run_tiny, untimed, write_experiment

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds child processes in /proc")

# A checkpoint after every step, so that there is always something to be killed in; a pool that takes a while to rate.
OFTEN = {"training": {**TINY["training"], "checkpoint_seconds": 0}, "jobs": 2}
LONGER = OFTEN | {"data": {**TINY["data"], "train": 200, "test": 40}, "seeds": [0]}
MOMENTS = ("training", "writing", "querying", "any")


def doing(run: Path) -> set[str]:
    """Return what the files of a run say that it is doing."""
    stages = set()
    try:
        for folder in {path.parent for path in run.glob("**/labelled.txt")}:
            if any(".part" in path.name for path in folder.iterdir()):
                stages.add("writing")
            if (folder / "half_trained.ckpt").exists():
                stages.add("training")
            asks = folder.name in ("cycle0", "cycle1")
            if (folder / "training.json").exists() and not (
                folder / ("selected.csv" if asks else "metrics.json")
            ).exists():
                stages.add("querying")
    except FileNotFoundError:
        pass  # a file was renamed in between
    return stages


def kill_at(yaml: Path, runs: Path, moment: str, rng: random.Random) -> bool:
    """Start the run and kill it at such a moment; return False if it ended before."""
    process, run = start(yaml, runs), runs / "tiny"
    before, begin, workers = doing(run), time.monotonic(), set()  # and what tracks resources, and starts workers
    wait = rng.uniform(0, 8)
    while process.poll() is None:
        workers |= descendants(process.pid)
        new = time.monotonic() - begin > wait if moment == "any" else len(workers) > 2 and moment in doing(run) - before
        if new or time.monotonic() - begin > 60:
            break
        before &= doing(run)  # what an earlier kill left behind is no sign, until it has gone
        time.sleep(0.003)
    if moment != "any":
        time.sleep(0.0 if moment == "writing" else rng.uniform(0, 0.3))
    workers |= descendants(process.pid)
    killed = process.poll() is None
    if killed and rng.random() < 0.5:
        os.killpg(process.pid, signal.SIGKILL)  # all at once, as when the power fails
    process.kill()
    _, errors = process.communicate()
    assert killed or process.returncode == 0, errors.decode()
    wait_for_end(workers)
    return killed


def assert_whole(run: Path) -> None:
    """Check that every file that bears its final name is whole."""
    for path in run.glob("**/*.json"):
        if ".part" not in path.name:
            json.loads(path.read_text())
    for path in run.glob("**/model.safetensors"):
        assert load_file(path)
    for path in run.glob("**/selected.csv"):
        assert path.read_text().startswith("rank,id,utility\n") and path.read_text().endswith("\n")


def survive(n_kills: int, expected: Path, folder: Path, seed: int, **changes) -> Counter:
    """Kill a run `n_kills` times, over as many experiments as that takes, and compare each with `expected`."""
    rng, survived, experiments = random.Random(seed), Counter(), 0
    while survived.total() < n_kills:
        experiments += 1
        place = folder / str(experiments)
        place.mkdir()
        yaml, run = write_experiment(place, **changes), place / "runs" / "tiny"
        while survived.total() < n_kills:
            moment = MOMENTS[survived.total() % len(MOMENTS)]
            if not kill_at(yaml, place / "runs", moment, rng):
                break
            survived[moment] += 1
            assert_whole(run)
        run_tiny(place, **changes)  # to the end
        assert_whole(run)
        assert not [path for path in run.glob("**/*") if path.suffix == ".ckpt" or ".part" in path.name]
        assert untimed(run) == untimed(expected)
        assert bits(run) == bits(expected)
    print(f"\n{survived.total()} kills survived in {experiments} experiments: {dict(survived)}")
    return survived


def test_a_run_survives_kills_in_training_in_writing_and_in_querying(finished, tmp_path, capsys):
    with capsys.disabled():
        survived = survive(3, finished[0], tmp_path, seed=0, **OFTEN)
    assert survived.total() == 3


@pytest.mark.slow
def test_a_run_survives_25_kills(tmp_path, capsys):
    expected, _ = run_tiny(tmp_path, **LONGER)
    with capsys.disabled():
        survived = survive(25, expected, tmp_path, seed=1, **LONGER)
    assert survived.total() == 25
    assert set(survived) == set(MOMENTS)
