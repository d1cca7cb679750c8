"""Run an experiment: every arm, seed and cycle that is not finished yet, in parallel, and what comes of it.

The loop of active learning itself is in `cycle.py`.
"""

import shutil
from pathlib import Path

from rich.console import Console
from torch.distributed import is_torchelastic_launched

from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.data.pixel_cache import LEAVE_FREE
from miaod_plugin.errors import ConfigError
from miaod_plugin.registry import EXECUTORS, find

from ..config.schema import ExperimentConfig
from ..cycle.cycle import Experiment
from ..executors.base import Failure
from ..report.page import write_report
from ..report.results import collect, results_table, write_results
from ..report.tables import seeds
from ..store.datasets import decode_all, describe, load_data
from ..store.layout import Cell, Run
from ..store.own_files import remove_pixels
from ..store.replay import require_replayable
from .progress import Display
from .work import work_off


def run_experiment(
    config: ExperimentConfig, out: str | Path = "runs", fresh: bool = False, console: Console | None = None
) -> list[Failure]:
    """Run what is not finished of an experiment, in ``out/config.name``.

    Parameters
    ----------
    config : ExperimentConfig
        From :func:`miaod_plugin.experiments.config.schema.load_config`.
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
    if is_torchelastic_launched():  # of whose processes all but one would have nothing to do
        raise ConfigError("torchrun: it starts scripts that call fit; run experiments without it, with devices=N")
    console = console or Console()
    run = Run(config, out)
    executor = find(EXECUTORS, config.executor.name)(run, **config.executor.options)
    train, test = load_data(config)
    experiment = Experiment(config, run, train, test)
    begun_with = {"train": describe(train), "test": describe(test)}
    begun_with |= {f"initial.seed{seed}": describe(train, experiment.initial_set(seed)) for seed in config.seeds}
    if config.replay is not None:
        require_replayable(config, begun_with)
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
                failures = work_off(experiment, executor, steps, display)
            finally:
                remove_pixels(run.root)
        try:
            _write_all(run, (train, test), console)
        except OSError:
            if not failures:  # of which one says, too, what is wrong with the disk
                raise
    return failures


def _write_all(run: Run, parts: tuple[DetectionData, DetectionData], console: Console) -> None:
    """Write what comes of all finished cells, and say where it is."""
    write_results(run)
    if collect(run):
        report = write_report([run.root], parts=parts)
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
