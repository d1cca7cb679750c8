"""Experiments whose trainings and passes are shared by two processes, one of which is killed again and again."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from processes import descendants, start, wait_for_end
from tiny_experiment import TINY, bits, write_experiment

from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.runner.run import run_experiment

# One arm over two budgets, a checkpoint after every step.
CHANGES = {
    "arms": [{"training": "miaod", "strategy": "miaod"}],
    "seeds": [0],
    "budgets": [4, 7],
    "training": TINY["training"] | {"checkpoint_seconds": 0, "max_steps": 40},
}


def test_devices_of_one_cell_and_several_cells_at_once_are_refused(tmp_path):
    yaml = write_experiment(tmp_path, **CHANGES)
    assert load_config(yaml, ["devices=2"]).devices == 2
    refused = r"tiny\.yaml: devices: 2 work on one cell, and not with '{}'; leave one out$"
    with pytest.raises(ConfigError, match=refused.format("jobs: 3")):
        load_config(yaml, ["devices=2", "jobs=3"])
    with pytest.raises(ConfigError, match=refused.format("device: cuda:1")):
        load_config(yaml, ["devices=2", "device=cuda:1"])


def test_torchrun_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    config = load_config(write_experiment(tmp_path, **CHANGES), ["devices=2"])
    with pytest.raises(ConfigError, match=r"^torchrun: it starts scripts that call fit; run .* with devices=N$"):
        run_experiment(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def ended(yaml: Path, runs: Path, kill: tuple[float, int] | None = None) -> tuple[int, list[str], float]:
    """Run with two devices; return its status, the lines it ended with, and how long the two processes were there.

    `kill` says how many seconds after their start which of them, 0 or 1, is killed. If the run misses it, it ends
    within 30 seconds. It leaves no process in any case.
    """
    process, seen, ranks, killed_at = start(yaml, runs, "devices=2"), set(), set(), None
    while process.poll() is None:
        seen |= descendants(process.pid)
        if len(ranks) < 2 and len(ranks := {pid for pid in seen if _is_rank(pid)}) == 2:
            there_since = time.monotonic()
        if kill and len(ranks) == 2 and killed_at is None and time.monotonic() > there_since + kill[0]:
            killed_at = time.monotonic()
            with suppress(ProcessLookupError):  # the run has just ended
                os.kill(sorted(ranks)[kill[1]], signal.SIGKILL)
        assert killed_at is None or time.monotonic() < killed_at + 300, "it hangs"
        time.sleep(0.02)
    there_for = time.monotonic() - there_since
    assert process.returncode == 0 or time.monotonic() < killed_at + 30
    wait_for_end(seen)
    return process.returncode, process.stderr.read().decode().splitlines(), there_for


def _is_rank(pid: int) -> bool:
    with suppress(OSError):
        return b"distributed.rank" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@pytest.mark.slow
def test_a_run_of_which_one_process_is_killed_at_ten_moments_ends_in_one_line_and_goes_on_to_the_same_bits(tmp_path):
    yaml, rng = write_experiment(tmp_path, **CHANGES), random.Random(0)
    status, lines, seconds = ended(yaml, tmp_path / "whole")
    assert (status, lines) == (0, [])
    expected, kills, experiments = bits(tmp_path / "whole" / "tiny"), 0, 0
    while kills < 10:
        experiments, status = experiments + 1, None
        runs = tmp_path / str(experiments)
        while status != 0:
            status, lines, _ = ended(yaml, runs, (rng.uniform(0, seconds), rng.randrange(2)) if kills < 10 else None)
            kills += status != 0
            killed = status == 1 and len(lines) == 1 and "was killed by SIGKILL" in lines[0]
            assert killed or (status, lines) == (0, []), (status, lines)
        assert bits(runs / "tiny") == expected
    print(f"\n{kills} kills survived in {experiments} experiments of {seconds:.0f} s")
