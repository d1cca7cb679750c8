"""Working a run off: every unfinished cell once the one before it is finished, as many at once as an executor takes."""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from functools import partial

from miaod_plugin.errors import DataError, MiaodError

from ..cycle.cycle import Experiment
from ..executors.base import CellExecutor, Failure
from ..report.event_files import EventFiles
from ..report.results import score_name, write_results
from ..store.environment import record_environment
from ..store.layout import Cell, Run
from ..store.records import read_record, survey
from .order import steps_ahead
from .progress import Display
from .resume import is_finished, reopen


def work_off(
    experiment: Experiment, executor: CellExecutor, steps: Mapping[Cell, int], display: Display
) -> list[Failure]:
    """Run every unfinished cell of an experiment; return what stopped cells.

    Parameters
    ----------
    steps : mapping of Cell to int
        Optimiser steps of the cells that train.
    """
    run = experiment.run
    everything = run.shared_cells() + run.arm_cells()
    stored = survey(run)
    finished = [cell for cell in everything if stored.finished(run, cell)]
    display.begin(len(everything), len(finished), sum(steps.values()), sum(steps.get(cell, 0) for cell in finished))
    if finished:
        display.say(f"going on: {len(finished)} of {len(everything)} cells are finished")
    work = _Work(experiment, executor, steps, display)
    with executor:
        while work.left:
            work.start()
            work.take_over()
    with _where_there_is_room(display, "event files"):
        work.events.close()
    return work.failures


class _Work:
    """What is ready, what is running, and what has been stopped; those cells start first that most steps follow."""

    def __init__(self, experiment: Experiment, executor: CellExecutor, steps: Mapping[Cell, int], display: Display):
        self.experiment, self.executor, self.steps, self.display = experiment, executor, steps, display
        self.run = experiment.run
        self.events = EventFiles(experiment)
        self.failures: list[Failure] = []
        self._ahead = steps_ahead(self.run, steps)
        self._ready: list[tuple[int, Cell]] = []
        self._running: dict[Future, Cell] = {}
        self._reopened: set[Cell] = set()
        self._keep_results = _Sparing(partial(write_results, self.run))
        for cell in self.run.shared_cells():
            self._is_ready(cell)

    @property
    def left(self) -> bool:
        return bool(self._ready or self._running)

    def start(self) -> None:
        """Submit ready cells, until the executor has enough; a finished one makes those ready that follow it.

        What there is to write of finished ones is written when workers have got something to do.
        """
        finished = []
        while self._ready and len(self._running) < self.executor.at_once:
            _, cell = heapq.heappop(self._ready)
            try:
                if self._finished(cell):
                    finished.append(cell)
                    for following in self.run.next_cells(cell):
                        self._is_ready(following)
                else:
                    self._running[self.executor.submit(cell)] = cell
            except (MiaodError, OSError) as error:
                self._stopped(Failure(cell, str(error), by_user=True))
        for cell in finished:
            with _where_there_is_room(self.display, "event files"):
                if cell.arm:
                    self.events.add(cell)

    def take_over(self) -> None:
        """Wait a moment for cells that end, and show how far the others are."""
        done, _ = wait(self._running, timeout=0.1, return_when=FIRST_COMPLETED)
        for message in self.executor.messages():
            self.display.show(message)
        with _where_there_is_room(self.display, "environment.json"):
            for where in self.executor.environments():
                record_environment(self.run, where)
        for future in done:
            cell = self._running.pop(future)
            try:
                failure = future.result()
            except BrokenExecutor:
                failure = Failure(cell, "a worker process died: killed, or out of memory (try fewer jobs)", False)
                self._ready.clear()  # it takes no more work
            self.display.finish(cell, self.steps.get(cell, 0), ok=failure is None)
            if failure is None:
                self.display.say(_summary(self.run, cell))
                self._is_ready(cell)  # to be published and followed
                with _where_there_is_room(self.display, "results.csv"):
                    self._keep_results()
            else:
                self._stopped(failure)

    def _is_ready(self, cell: Cell) -> None:
        heapq.heappush(self._ready, (-self._ahead[cell], cell))

    def _finished(self, cell: Cell) -> bool:
        """Whether a cell is finished; one that is damaged is made ready to be done again, once."""
        try:
            return is_finished(self.experiment, cell)
        except DataError as error:
            if cell in self._reopened:
                raise
            reopen(self.run, cell)
            self._reopened.add(cell)
            self.display.say(f"{cell}: done again: {error}")
            return False

    def _stopped(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.display.say(f"{failure.cell}: stopped: {failure.message}")


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
