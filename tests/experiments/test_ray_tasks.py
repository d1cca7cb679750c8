"""Cells as tasks on a real Ray, whose workers and nodes are killed; `make test-ray`."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from processes import miaod, start_until, wait_for_end
from ray_cluster import TinyCluster, raylet
from tiny_experiment import TINY, bits, run_tiny, untimed, write_experiment

pytest.importorskip("ray", reason="the extra miaod-plugin[ray] is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds workers in /proc"),
]

OFTEN = {"training": {**TINY["training"], "checkpoint_seconds": 0}}


@pytest.fixture
def cluster():
    made = TinyCluster()
    yield made
    made.close()


def on(cluster: TinyCluster, **options) -> dict:
    return {"executor": {"name": "ray", "options": {"address": cluster.address, **options}}}


class Killer(threading.Thread):
    """Kills the processes that `victims` returns as soon as there are any and a file of `pattern` is there."""

    def __init__(self, folder: Path, pattern: str, victims):
        super().__init__(daemon=True)
        self._folder, self._pattern, self._victims, self.killed = folder, pattern, victims, set()

    def run(self) -> None:
        deadline = time.monotonic() + 120
        while not self.killed and time.monotonic() < deadline:
            if list(self._folder.glob(self._pattern)):
                self.killed = self._victims()
                for pid in self.killed:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def test_a_killed_worker_and_a_killed_node_are_survived_to_the_bits_of_the_process_pool(finished, cluster, tmp_path):
    before = cluster.workers()
    worker = Killer(tmp_path, "runs/tiny/shared/*/*/half_trained.ckpt", lambda: set(list(cluster.workers())[:1]))
    node = Killer(
        tmp_path,
        "runs/tiny/arms/*/*/cycle1/half_trained.ckpt",
        lambda: {raylet(node) for node in cluster.others() if cluster.workers([node])},
    )
    worker.start()
    node.start()
    run, printed = run_tiny(tmp_path, **OFTEN, **on(cluster))
    assert before == set() and len(worker.killed) == len(node.killed) == 1
    assert "died" not in printed
    assert untimed(run) == untimed(finished[0])
    assert bits(run) == bits(finished[0])
    recorded = json.loads((run / "environment.json").read_text())
    assert [where["threads"] for where in recorded] == [1], "what the workers told"


def test_a_cell_whose_worker_dies_again_and_again_fails_in_one_line_and_stops_no_other(cluster, tmp_path):
    # With no retries, once is enough.
    experiment = write_experiment(tmp_path, **OFTEN, **on(cluster, retries=0), seeds=[0], budgets=[4])
    killer = Killer(tmp_path, "runs/tiny/shared/*/miaod/half_trained.ckpt", lambda: set(list(cluster.workers())[:1]))
    killer.start()
    ended = miaod("run", experiment, "--out", tmp_path / "runs", capture_output=True, text=True)
    assert ended.returncode == 1 and len(killer.killed) == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("miaod: seed 0  shared ") and "a worker died, 0 retries included" in line
    assert len(list(tmp_path.glob("runs/tiny/shared/*/*/metrics.json"))) == 1, "the other one"


def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(cluster, tmp_path):
    experiment = write_experiment(tmp_path, **OFTEN, seeds=list(range(50)))
    process, _ = start_until(experiment, tmp_path / "runs", "tiny/shared/*/*/losses.jsonl", "--ray", cluster.address)
    workers = cluster.workers()
    assert workers
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().strip() == "stopped; the same command goes on from here"
    wait_for_end(workers | cluster.workers())


def test_a_cluster_that_is_not_there_is_one_line_at_once(tmp_path):
    experiment = write_experiment(tmp_path)
    ended = miaod("run", experiment, "--ray", "127.0.0.1:1", cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("miaod: Ray at 127.0.0.1:1: cannot be reached: ")
