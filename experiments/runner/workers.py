"""Worker processes: each loads the data once and then runs the cycles it is given."""

import contextlib
import errno
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import traceback
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from queue import Empty

import torch

from miaod_plugin.errors import ConfigError, DataError, MiaodError
from miaod_plugin.threads import passive_waiting

from ..cycle.cycle import Experiment, run_cycle
from ..store.datasets import load_data
from ..store.environment import threads_of_each
from ..store.layout import Cell, Run
from ..store.stored import write_json
from .resume import own_folder


@dataclass(frozen=True)
class Progress:
    """A message from a worker: where its cell is."""

    cell: Cell
    stage: str
    step: int = 0
    total: int = 0


@dataclass(frozen=True)
class Failure:
    """What stopped a cell; `by_user` where the message is about something that the user supplied."""

    cell: Cell
    message: str
    by_user: bool


def device_of(worker: int, device: str, n_gpus: int) -> str:
    """Return where a worker computes: its GPU where there are several, dealt out in turn, unless one is named."""
    return f"cuda:{worker % n_gpus}" if n_gpus > 1 and device in ("auto", "cuda") else device


class Workers:
    """A pool of `config.jobs` processes that end with this one, however it ends."""

    def __init__(self, run: Run):
        context = multiprocessing.get_context("spawn")
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
        """Start a cell; the future's result is None or a `Failure`."""
        with passive_waiting():  # it may start a worker
            return self._pool.submit(_run, cell)

    def messages(self) -> list[Progress]:
        """Return the progress reported since the last call."""
        received = []
        with contextlib.suppress(Empty):
            while True:
                received.append(self._messages.get_nowait())
        return received

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:  # nothing they still do is wanted; every file they were writing is whole or absent
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


_experiment: Experiment
_send = None


def _start(run: Run, threads: int, started, messages) -> None:
    """Prepare a worker process; `started` counts those before it."""
    global _experiment, _send
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormal floats slow training on CPUs down many times
    logging.getLogger("miaod_plugin").setLevel(logging.ERROR)  # the parent has named every skipped annotation
    with started.get_lock():
        worker, started.value = started.value, started.value + 1
    device = device_of(worker, run.config.device, torch.cuda.device_count())
    run.config = run.config.model_copy(update={"device": device})
    train, test = load_data(run.config)
    _experiment, _send = Experiment(run.config, run, train, test), messages.put


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _run(cell: Cell) -> Failure | None:
    """Run one cycle; what goes wrong in it is written to its ``error.json`` and stops nothing else."""
    run, last = _experiment.run, 0.0

    def report(stage: str, step: int = 0, total: int = 0) -> None:
        nonlocal last
        if stage != "training" or step == total or time.monotonic() - last > 0.2:
            last = time.monotonic()
            _send(Progress(cell, stage, step, total))

    report("starting")
    try:
        (own_folder(run, cell) / "error.json").unlink(missing_ok=True)
        run_cycle(_experiment, cell, report)
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            message = f"no space left on the disk of {run.root}; make room and run the same command again"
        elif not isinstance(error, MiaodError):
            message = f"{type(error).__name__}: {message}"
        with contextlib.suppress(OSError, DataError):  # the disk may be full, the folder a link
            stopped = {"error": type(error).__name__, "message": message, "trace": traceback.format_exc()}
            write_json(run.folder(cell) / "error.json", stopped)
        return Failure(cell, message, by_user=isinstance(error, DataError | ConfigError))
    return None
