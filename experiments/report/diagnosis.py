"""Does a strategy know what the detector gets wrong? Utilities of a run's pools against the true annotations.

The pools of an experiment are annotated, although the arms do not look: every image that a strategy has scored has a
true detection loss and a true average precision. A strategy whose utilities rank images as their loss does picks what
the detector has yet to learn; one that ranks them as their number of boxes picks what is dear to annotate.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from scipy.stats import spearmanr

from miaod_plugin.data import make_targets
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.detectors.network import InstanceOutputs
from miaod_plugin.errors import ConfigError, did_you_mean
from miaod_plugin.labeled import Labeled
from miaod_plugin.metrics import voc_average_precision
from miaod_plugin.query import QueryStrategy

from ..config.sampling import random_state
from ..config.trainings import load_estimator, make_strategy, training_of
from ..store.datasets import stored_parts
from ..store.layout import Cell, Run, open_run
from ..store.records import model_path, undamaged
from ..store.stored import write_rows

TRUTHS = ("loss", "error", "boxes")


def write_diagnosis(
    root: str | Path, cycle: int | None = None, arms: Sequence[str] | None = None
) -> tuple[list[dict], Path]:
    """Write ``diagnosis.csv`` into the folder of a run, and return its rows and its path; see `diagnose`."""
    run = open_run(root)
    train, _ = stored_parts(run)
    rows = list(diagnose(run, train, cycle, arms))
    if not rows:
        raise ConfigError(
            f"{run.root}: there is nothing to compare: no strategy of this run scores images one by one, or no image"
            " was left to score (try an earlier --cycle)"
        )
    path = run.root / "diagnosis.csv"
    write_rows(path, [row | {truth: f"{row[truth]:.4f}" for truth in TRUTHS} for row in rows])
    return rows, path


def diagnosis_table(rows: list[dict]) -> Table:
    """Return the mean rank correlations over the seeds where they are known."""
    table = Table("arm", "strategy", *TRUTHS, title="Spearman's rank correlation of utility, mean over seeds")
    for column in table.columns[2:]:
        column.justify = "right"
    for arm, strategy in dict.fromkeys((row["arm"], row["strategy"]) for row in rows):
        own = [row for row in rows if (row["arm"], row["strategy"]) == (arm, strategy)]
        known = [[row[truth] for row in own if np.isfinite(row[truth])] for truth in TRUTHS]
        table.add_row(arm, strategy, *(f"{np.mean(values):+.2f}" if values else "-" for values in known))
    return table


def diagnose(
    run: Run, train: DetectionData, cycle: int | None = None, arms: Sequence[str] | None = None
) -> Iterator[dict]:
    """Yield how the utilities of each model's pool rank against the truth, by arm, seed and strategy.

    Every strategy of the run that scores images one by one is asked about every model that it can work with, so that
    strategies are compared on the same model.

    Parameters
    ----------
    run : Run
    train : DetectionData
        The training part of the run.
    cycle : int, optional
        The cycle whose models are asked; by default the last that ends in a query.
    arms : sequence of str, optional
        The arms whose models are asked; by default all.

    Yields
    ------
    dict
        ``arm``, ``seed``, ``cycle``, ``strategy``, ``images`` (of the pool), and Spearman's rank correlation of the
        utilities over them with ``loss`` (the detection loss), ``error`` (1 - AP50 of the image alone; images without
        boxes left out) and ``boxes`` (how many there are); ``nan`` where one of the two is constant.

    Raises
    ------
    ConfigError
        If there is no such arm, or no model of that cycle has finished with a query.
    """
    for arm in arms or ():
        if arm not in run.trainings:
            raise ConfigError(f"{run.root}: --arm: there is no arm {arm!r}{did_you_mean(arm, run.trainings)}")
    cycle = max(len(run.config.budgets) - 2, 0) if cycle is None else cycle
    records = undamaged(run)
    asked = [cell for cell, record in records.items() if record.selected is not None]
    cells = [cell for cell in asked if cell.cycle == cycle and cell.arm and (not arms or cell.arm in arms)]
    if not cells:
        raise ConfigError(f"{run.root}: no model of cycle {cycle} has finished with a query")
    row_of = {name: row for row, name in enumerate(train.ids.tolist())}
    for cell in cells:
        estimator = load_estimator(run.config, model_path(run, cell))
        labelled = [row_of[name] for name in records[cell].labelled]
        known = Labeled(train.X[labelled], train.y[labelled])
        pool = np.setdiff1d(np.arange(len(train)), labelled)
        if not len(pool):
            continue  # everything is labelled: nobody was asked
        truths = true_values(estimator, train, pool)
        for name, strategy in _strategies(run, cell).items():
            prepared = strategy.prepared(estimator, train.X[pool], known)
            utilities = strategy.utilities(prepared, train.X[pool], labeled=known)
            ranks = {truth: rank_correlation(utilities, truths[truth]) for truth in TRUTHS}
            yield {"arm": cell.arm, "seed": cell.seed, "cycle": cycle, "strategy": name, "images": len(pool), **ranks}


def true_values(estimator, train: DetectionData, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each image the loss and the error of a fitted detector on it, and the number of its boxes."""
    y = train.y[rows]
    passed = estimator.map_pool(train.X[rows], {"detections": lambda outputs: outputs.detections, "loss": _losses}, y=y)
    pairs = zip(passed["detections"], y, strict=True)
    return {
        "loss": passed["loss"].astype(float),
        "error": np.array([_error(prediction, target, len(train.classes)) for prediction, target in pairs]),
        "boxes": np.array([len(target["labels"]) for target in y], dtype=float),
    }


def rank_correlation(utilities: np.ndarray, truth: np.ndarray) -> float:
    """Return Spearman's rank correlation over the images whose truth is known; ``nan`` where either is constant."""
    known = np.isfinite(truth)
    utilities, truth = utilities[known], truth[known]
    if len(truth) < 2 or np.ptp(utilities) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(spearmanr(utilities, truth).statistic)


def _losses(outputs: InstanceOutputs) -> torch.Tensor:
    return torch.stack([sum(parts.values()) for parts in outputs.losses])


def _error(prediction: dict, target: dict, n_classes: int) -> float:
    targets = make_targets([target])
    mean = voc_average_precision(make_targets([prediction]), targets, n_classes, method="area")["map"]
    return float("nan") if mean is None else 1 - mean  # there is no object, or only difficult ones


def _strategies(run: Run, cell: Cell) -> dict[str, QueryStrategy]:
    """Return the strategies of the run that can score the pool of the cell's model one image at a time."""
    found: dict[str, QueryStrategy] = {}
    training = type(training_of(run.config, cell.training))
    for arm in run.config.arms:
        strategy = make_strategy(run.config, arm, random_state(cell.seed, "query", cell.cycle), cell.training)
        scores = type(strategy).utilities is not QueryStrategy.utilities
        if scores and strategy.reads(training):
            own = arm.strategy if not arm.options else f"{arm.strategy} {arm.options}"
            found.setdefault(own, strategy)
    return found
