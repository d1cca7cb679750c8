"""Benchmark of scheduling: what a cell takes that learns nothing, in worker processes and as a task on Ray.

    python -m miaod_plugin.experiments.benchmarks.cells                 # 300 and 1,000 cells, processes
    python -m miaod_plugin.experiments.benchmarks.cells --executor ray  # needs the extra ``ray``

A cell does all that it does in an experiment, with its files, but for training, loading and asking a model. Two
workers do them, or on Ray one for each core. They are timed from when each worker has begun a cell; the start of
workers and the report of the run, which it has once, are apart.
"""

import argparse
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from rich.console import Console

from ..config.schema import load_config
from ..cycle import cycle
from ..executors import cells, processes, ray_tasks
from ..runner.progress import Display
from ..runner.run import steps_of_cells
from ..runner.work import work_off
from ..store.datasets import describe, load_data
from ..store.layout import Cell, Run
from ..store.records import LABELLED, SELECTED, SELECTED_COLUMNS, TRAINED, TRAINING, training_done
from ..store.stored import as_json, seal, write_lines, write_rows
from .growth import Growth, show

BUDGETS, ARMS = [4, 7, 9, 11, 13], ("first", "second")
OF_A_SEED = 1 + len(ARMS) * len(BUDGETS)  # cells: what both arms start from, and theirs
TIMES = "times.txt"  # in the run's folder: process, begin and end of each cell

_run_cycle = cells.run_cycle


def _teach(experiment: cycle.Experiment, cell: Cell, labelled: np.ndarray, report) -> dict:
    """Do as `cycle.teach` does, with a model that is an empty file."""
    if (done := training_done(experiment.run, cell)) is not None:
        return done
    folder = experiment.run.folder(cell)
    for name in TRAINED[:-1]:
        write_lines(folder / name, [])
    done = {"training": cell.training, "seed": cell.seed, "cycle": cell.cycle}
    done |= {"steps": experiment.steps(cell), "losses": {}, "train_seconds": 0.0}
    seal(folder / TRAINING, as_json(done), [LABELLED, *TRAINED[:-1]])
    return done


def _query(experiment: cycle.Experiment, cell: Cell, estimator, labelled: np.ndarray, report) -> float:
    """Pick the first images that are left."""
    more = experiment.config.budgets[cell.cycle + 1] - len(labelled)
    rest = np.delete(experiment.train.ids, labelled)[:more]
    rows = [{"rank": rank, "id": name, "utility": "0.0"} for rank, name in enumerate(rest, start=1)]
    write_rows(experiment.run.folder(cell) / SELECTED, rows, SELECTED_COLUMNS)
    return 0.0


def _timed_cycle(experiment: cycle.Experiment, cell: Cell, report) -> None:
    begin = time.time()  # the one clock that all processes share
    _run_cycle(experiment, cell, report)
    with open(experiment.run.root / TIMES, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {begin} {time.time()}\n")


def _learn_nothing() -> None:
    """Let cells of this process be timed, and be without a model."""
    cells.run_cycle, cycle.teach, cycle.query = _timed_cycle, _teach, _query
    cycle.load_estimator = lambda config, path, cache: None
    cycle.score = lambda experiment, cell, estimator, report: {"ap50": 0.5, "per_class": {}}


def _in_process(cell: Cell):
    _learn_nothing()
    return processes.Processes.do(cell)


def _in_task(*arguments):
    _learn_nothing()
    return ray_tasks.RayTasks.do(*arguments)


class StubProcesses(processes.Processes):
    """Worker processes whose cells learn nothing."""

    do = staticmethod(_in_process)


class StubTasks(ray_tasks.RayTasks):
    """Tasks on Ray that learn nothing."""

    do = staticmethod(_in_task)


@dataclass(frozen=True)
class Scheduled:
    """What it took to run cells, in seconds.

    Attributes
    ----------
    cells, workers : int
    start : float
        Until each worker had begun a cell.
    each : float
        From there to the end, a cell.
    inside : float
        What a worker was busy with a cell, in the mean.
    driver : float
        What the processor did for a cell in the process that schedules them, the start of workers included.
    """

    cells: int
    workers: int
    start: float
    each: float
    inside: float
    driver: float


def schedule(executor: type, n: int, folder: Path, jobs: int = 2, **options) -> Scheduled:
    """Run about `n` cells in a folder."""
    run, experiment = _experiment(-(-n // OF_A_SEED), folder, jobs)
    with run.locked(), Display(run.root / "run.log", Console(file=io.StringIO())) as display:
        run.claim({"train": describe(experiment.train), "test": describe(experiment.test)})
        begin, busy = time.time(), time.process_time()
        failures = work_off(experiment, executor(run, **options), steps_of_cells(experiment), display)
        busy = time.process_time() - busy
    assert not failures, failures[0]
    pids, begun, ended = np.loadtxt(run.root / TIMES).T
    all_at_work = max(begun[pids == pid].min() for pid in np.unique(pids))
    counted = begun >= all_at_work
    each = (ended.max() - all_at_work) / counted.sum()
    inside = (ended - begun)[counted].mean()
    return Scheduled(len(pids), len(np.unique(pids)), all_at_work - begin, each, inside, busy / len(pids))


def _experiment(n_seeds: int, folder: Path, jobs: int) -> tuple[Run, cycle.Experiment]:
    content = {
        "name": "stub",
        "data": {"kind": "digits", "train": 24, "test": 8, "n_classes": 3},
        "detector": {"name": "retinanet_tiny"},
        "training": {"batch_size": 4},
        "arms": [{"name": name, "training": "supervised", "strategy": "random"} for name in ARMS],
        "budgets": BUDGETS,
        "seeds": list(range(n_seeds)),
        "jobs": jobs,
        "threads": 1,
        "device": "cpu",
    }
    path = folder / "stub.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    config = load_config(path)
    run = Run(config, folder)
    return run, cycle.Experiment(config, run, *load_data(config))


def main() -> None:
    """Run few and many cells, print what each takes, and how that grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, nargs=2, default=[300, 1000], metavar="N", help="few, and many")
    parser.add_argument("--executor", choices=("processes", "ray"), default="processes")
    options = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # as that of worker processes
    executor, own = (StubTasks, {"address": "local"}) if options.executor == "ray" else (StubProcesses, {})
    sizes, seconds = [], []
    for n in options.cells:
        with TemporaryDirectory() as folder:
            took = schedule(executor, n, Path(folder), **own)
        print(
            f"{took.cells} cells, {took.workers} workers: {1000 * took.each:.1f} ms each; a worker is busy with one for"
            f" {1000 * took.inside:.1f}, the scheduling process computes for {1000 * took.driver:.1f}; before that"
            f" workers start for {took.start:.1f} s; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        sizes.append(took.cells)
        seconds.append(took.each * took.cells)
    show([Growth(f"cells, {options.executor}", sizes, seconds)], "cells")


if __name__ == "__main__":
    main()
