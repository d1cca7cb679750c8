"""Run an experiment: every arm, seed and cycle that is not finished yet, in parallel, and what comes of it.

The loop of active learning itself is in `cycle.py`.
"""

import heapq
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.data.pixel_cache import LEAVE_FREE
from miaod_plugin.errors import DataError, MiaodError
from miaod_plugin.registry import EXECUTORS, find

from ..config.schema import ExperimentConfig
from ..cycle.cycle import Experiment
from ..executors.base import CellExecutor, Failure
from ..report.event_files import EventFiles
from ..report.page import write_report
from ..report.results import collect, results_table, score_name, write_results
from ..report.tables import seeds
from ..store.datasets import decode_all, describe, load_data
from ..store.environment import record_environment
from ..store.layout import Cell, Run
from ..store.own_files import remove_pixels
from ..store.records import read_record, survey
from .order import steps_ahead
from .progress import Display
from .resume import is_finished, reopen


def run_experiment(
    config: ExperimentConfig, out: str | Path = "runs", fresh: bool = False, console: Console | None = None
) -> list[Failure]:
    """Run what is not finished of an experiment, in ``out/config.name``.

    Parameters
    ----------
    config : ExperimentConfig
        From :func:`miaod_plugin.experiments.schema.load_config`.
    out : path, default="runs"
        Folder of all runs.
    fresh : bool, default=False
        Delete the run of this name first.
    console : rich.console.Console, optional
        Where to show progress and the results.

    Returns
    -------
    list of Failure
        What stopped cells; empty when every cell is finished. The same call tries them again.

    Raises
    ------
    ConfigError, DataError
        Before any training, if the experiment does not fit its data, its run folder or its detector.
    """
    console = console or Console()
    run = Run(config, out)
    executor = find(EXECUTORS, config.executor.name)(run, **config.executor.options)
    train, test = load_data(config)
    experiment = Experiment(config, run, train, test)
    begun_with = {"train": describe(train), "test": describe(test)}
    begun_with |= {f"initial.seed{seed}": describe(train, experiment.initial_set(seed)) for seed in config.seeds}
    steps = steps_of_cells(experiment)
    if fresh or not run.begun():
        decode_all(train, test)
    with run.locked():
        run.claim(begun_with, fresh)
        with Display(run.root / "run.log", console) as display:
            display.say(
                f"{config.name}: {len(train)} training and {len(test)} test images, {len(config.arms)} arms,"
                f" {seeds(len(config.seeds))}, {len(config.budgets)} budgets,"
                f" {sum(steps.values())} optimiser steps in all"
            )
            if train.X.ndim == 1 and shutil.disk_usage(run.root).free < LEAVE_FREE:
                display.say(f"less than {LEAVE_FREE >> 30} GiB of the disk is free: images are not kept decoded")
            try:
                failures = _work(experiment, executor, steps, display)
            finally:
                remove_pixels(run.root)
        try:
            _write_all(run, train, console)
        except OSError:
            if not failures:  # of which one says, too, what is wrong with the disk
                raise
    return failures


def _write_all(run: Run, train: DetectionData, console: Console) -> None:
    """Write what comes of all finished cells, and say where it is."""
    write_results(run)
    if collect(run):
        report = write_report([run.root], train=train)
        console.print(results_table(run))
        for name in ("results.csv", "curves.png", "tensorboard"):
            console.print(f"{name:12s} {run.root / name}", soft_wrap=True, highlight=False)
        console.print(f"report       {report}", soft_wrap=True, highlight=False)


def steps_of_cells(experiment: Experiment) -> dict[Cell, int]:
    """Return the optimiser steps of the cells that train: the shared ones, and every arm's from the second cycle on."""
    run, known = experiment.run, {}
    cells = run.shared_cells() + [cell for cell in run.arm_cells() if cell.cycle > 0]
    for cell in cells:
        if (cell.training, cell.cycle) not in known:  # seeds and arms take the same
            known[cell.training, cell.cycle] = experiment.steps(cell)
    return {cell: known[cell.training, cell.cycle] for cell in cells}


def _work(experiment: Experiment, executor: CellExecutor, steps: Mapping[Cell, int], display: Display) -> list[Failure]:
    """Run every unfinished cell once the one before it is finished; those that most steps follow go first."""
    run = experiment.run
    everything = run.shared_cells() + run.arm_cells()
    stored = survey(run)
    finished = [cell for cell in everything if stored.finished(run, cell)]
    display.begin(len(everything), len(finished), sum(steps.values()), sum(steps.get(cell, 0) for cell in finished))
    if finished:
        display.say(f"going on: {len(finished)} of {len(everything)} cells are finished")

    events = EventFiles(experiment)
    reopened: set[Cell] = set()
    ahead = steps_ahead(run, steps)
    ready = [(-ahead[cell], cell) for cell in run.shared_cells()]
    heapq.heapify(ready)
    running: dict[Future, Cell] = {}
    keep_results = _Sparing(partial(write_results, run))
    failures: list[Failure] = []
    with executor:
        while ready or running:
            while ready and len(running) < executor.at_once:
                _, cell = heapq.heappop(ready)
                try:
                    finished = _finished_or_reopened(experiment, cell, reopened, display)
                except (MiaodError, OSError) as error:
                    failures.append(Failure(cell, str(error), by_user=True))
                    display.say(f"{cell}: stopped: {error}")
                    continue
                if not finished:
                    running[executor.submit(cell)] = cell
                    continue
                if cell.arm:
                    with _where_there_is_room(display, "event files"):
                        events.add(cell)
                for following in run.next_cells(cell):
                    heapq.heappush(ready, (-ahead[following], following))
            done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
            for message in executor.messages():
                display.show(message)
            with _where_there_is_room(display, "environment.json"):
                for where in executor.environments():
                    record_environment(run, where)
            for future in done:
                cell = running.pop(future)
                try:
                    failure = future.result()
                except BrokenExecutor:
                    failure = Failure(cell, "a worker process died: killed, or out of memory (try fewer jobs)", False)
                    ready.clear()  # it takes no more work
                display.finish(cell, steps.get(cell, 0), ok=failure is None)
                if failure is None:
                    display.say(_summary(run, cell))
                    heapq.heappush(ready, (-ahead[cell], cell))  # to be published and followed
                    with _where_there_is_room(display, "results.csv"):
                        keep_results()
                else:
                    failures.append(failure)
                    display.say(f"{cell}: stopped: {failure.message}")
    with _where_there_is_room(display, "event files"):
        events.close()
    return failures


def _finished_or_reopened(experiment: Experiment, cell: Cell, reopened: set[Cell], display: Display) -> bool:
    """Whether a cell is finished; one that is damaged is made ready to be done again, once."""
    try:
        return is_finished(experiment, cell)
    except DataError as error:
        if cell in reopened:
            raise
        reopen(experiment.run, cell)
        reopened.add(cell)
        display.say(f"{cell}: done again: {error}")
        return False


class _Sparing:
    """A call that is left out where it would take more than a twentieth of the time, as a table of many cells does."""

    def __init__(self, call: Callable[[], None]):
        self._call, self._next = call, 0.0

    def __call__(self) -> None:
        if (begin := time.monotonic()) >= self._next:
            self._call()
            end = time.monotonic()
            self._next = end + 20 * (end - begin)


@contextmanager
def _where_there_is_room(display: Display, what: str) -> Iterator[None]:
    """Go on without what can be written from the finished cells at any later time."""
    try:
        yield
    except OSError as error:
        display.say(f"{what}: not written: {error.strerror or error}")
    except MiaodError as error:
        display.say(f"{what}: not written: {error}")


def _summary(run: Run, cell: Cell) -> str:
    """Return the line about a cell that has just been finished."""
    metrics = read_record(run, cell).metrics
    name = score_name(run)
    line = f"{cell}: {metrics['images']} images, {metrics['boxes']} boxes, {name.upper()} {100 * metrics[name]:.1f} %"
    if cell.cycle > 0 or not cell.arm:
        line += f", {metrics['steps']} steps in {metrics['train_seconds']:.1f} s"
    if metrics["query_seconds"] is not None:
        line += f", query in {metrics['query_seconds']:.1f} s"
    if arms := [following.arm for following in run.next_cells(cell) if not cell.arm]:
        line += f"; trained once for {', '.join(arms)}"
    return line
