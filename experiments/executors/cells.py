"""What a worker does, whichever executor it belongs to: it loads the data once, and then runs cells."""

import contextlib
import errno
import logging
import time
import traceback
from collections.abc import Callable

import torch

from miaod_plugin.errors import ConfigError, DataError, MiaodError

from ..cycle.cycle import Experiment, run_cycle
from ..store.datasets import load_data
from ..store.layout import Cell, Run
from ..store.own_files import own_folder
from ..store.stored import write_json
from .base import Failure, Progress


def prepare(run: Run, threads: int, device: str) -> Experiment:
    """Set up this process to run cells of `run`, on `device` with so many threads of torch."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormal floats slow training on CPUs down many times
    logging.getLogger("miaod_plugin").setLevel(logging.ERROR)  # the run's process has named every skipped annotation
    run.config = run.config.model_copy(update={"device": device})
    train, test = load_data(run.config)
    return Experiment(run.config, run, train, test)


def run_cell(experiment: Experiment, cell: Cell, send: Callable[[Progress], object]) -> Failure | None:
    """Run one cycle; what goes wrong in it is written to its ``error.json`` and stops nothing else."""
    run, last = experiment.run, 0.0

    def report(stage: str, step: int = 0, total: int = 0) -> None:
        nonlocal last
        if stage != "training" or step == total or time.monotonic() - last > 0.2:
            last = time.monotonic()
            send(Progress(cell, stage, step, total))

    report("starting")
    try:
        (own_folder(run.folder(cell)) / "error.json").unlink(missing_ok=True)
        run_cycle(experiment, cell, report)
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
