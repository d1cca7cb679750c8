"""Worker processes on this machine."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from queue import Empty

import torch

from miaod_plugin.threads import passive_waiting

from ..cycle.cycle import Experiment
from ..store.environment import threads_of_each
from ..store.layout import Cell, Run
from .base import CellExecutor, Failure, Progress
from .cells import prepare, run_cell


def device_of(worker: int, device: str, n_gpus: int) -> str:
    """Return where a worker computes: its GPU where there are several, dealt out in turn, unless one is named."""
    return f"cuda:{worker % n_gpus}" if n_gpus > 1 and device in ("auto", "cuda") else device


class Processes(CellExecutor):
    """As many processes of this machine as `jobs` says, which end with the run, however it ends."""

    def __init__(self, run: Run):
        super().__init__(run)
        context = _starting()
        self._messages = context.Queue()
        self._others = set(multiprocessing.active_children())
        threads = threads_of_each(run.config)
        self._pool = ProcessPoolExecutor(
            run.config.jobs,
            mp_context=context,
            initializer=_start,
            initargs=(run, threads, context.Value("i", 0), self._messages),
        )

    def submit(self, cell: Cell) -> Future:
        with passive_waiting():  # it may start a worker
            return self._pool.submit(self.do, cell)

    @staticmethod
    def do(cell: Cell) -> Failure | None:
        """Do a cell, in a worker."""
        return run_cell(_experiment, cell, _send)

    def messages(self) -> list[Progress]:
        received = []
        with contextlib.suppress(Empty):
            while True:
                received.append(self._messages.get_nowait())
        return received

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:  # every file they were writing is whole or absent
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _starting() -> multiprocessing.context.BaseContext:
    """Return how workers are started: forked from a process that does no more than load torch, once for all of them.

    A run's own process must not be forked: it has threads, and a GPU may be in use. Where there is no such server each
    worker loads torch itself, which takes seconds.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


_experiment: Experiment
_send = None


def _start(run: Run, threads: int, started, messages) -> None:
    """Prepare a worker process; `started` counts those before it."""
    global _experiment, _send
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with started.get_lock():
        worker, started.value = started.value, started.value + 1
    n_gpus = torch.cuda.device_count() if run.config.devices == 1 else 1  # which else share each cell
    device = device_of(worker, run.config.device, n_gpus)
    _experiment, _send = prepare(run, threads, device), messages.put


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
