import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_experiment import write_experiment

from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.experiments.executors.processes import Processes, device_of
from miaod_plugin.experiments.store.environment import environment, threads_of_each
from miaod_plugin.experiments.store.layout import Run


def test_workers_are_dealt_out_over_the_gpus_unless_one_is_named():
    assert [device_of(worker, "auto", 3) for worker in range(5)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert [device_of(worker, "cuda", 2) for worker in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    for device, n_gpus in (("auto", 0), ("auto", 1), ("cuda", 1), ("cuda:1", 4), ("cpu", 4), ("mps", 0)):
        assert device_of(1, device, n_gpus) == device


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_workers_share_the_cores_that_the_process_is_bound_to(tmp_path):
    config = load_config(write_experiment(tmp_path, threads=None, jobs=1))
    bound = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(bound)})
        assert threads_of_each(config) == 1
    finally:
        os.sched_setaffinity(0, bound)
    assert threads_of_each(load_config(write_experiment(tmp_path, threads=3))) == 3


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds what processes were started with in /proc")
def test_threads_of_workers_wait_passively_and_the_environment_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    run = Run(load_config(write_experiment(tmp_path)), tmp_path / "runs")
    others, before = set(multiprocessing.active_children()), dict(os.environ)
    with pytest.raises(KeyboardInterrupt), Processes(run) as workers:  # which ends them at once
        workers.submit(run.shared_cells()[0])
        (worker,) = set(multiprocessing.active_children()) - others
        assert b"OMP_WAIT_POLICY=PASSIVE" in Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
        assert dict(os.environ) == before
        raise KeyboardInterrupt


def test_what_makes_results_of_gpus_differ_is_recorded(tmp_path):
    made = environment(Run(load_config(write_experiment(tmp_path)), tmp_path / "runs"))
    assert made["numerics"]["float32_matmul_precision"] == "highest"
    assert {"matmul_tf32", "cudnn_tf32", "cudnn", "cudnn_deterministic", "cudnn_benchmark"} < made["numerics"].keys()
    assert {"cuda", "driver"} < made.keys()


SET = """
import torch
from miaod_plugin.experiments.store.environment import numerics
for precision, word in (("ieee", "highest"), ("tf32", "high")):
    torch.backends.fp32_precision = precision
    made = numerics()
    assert (made["float32_matmul_precision"], made["matmul_tf32"]) == (word, precision == "tf32"), made
"""


def test_a_precision_that_is_set_for_all_backends_is_recorded():
    subprocess.run([sys.executable, "-c", SET], check=True)  # torch does not forget what was set
