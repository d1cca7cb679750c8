"""One cycle of active learning, top to bottom: annotate, teach, score, query.

Nothing passes from cycle to cycle in memory: a cycle reads what the last one wrote. Training leaves a file behind that
says that it is done, and what follows always uses the saved model, so that a cycle that was stopped anywhere and
started again ends with the same result, on a CPU with the same bits.
"""

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.errors import DataError, shown
from miaod_plugin.metrics import coco_average_precision, voc_average_precision
from miaod_plugin.stopping import agreement, uncertainty
from miaod_plugin.training.checkpoint import discard_damaged

from ..config.sampling import annotation_costs, most_images, random_state, unlabelled_subset
from ..config.schema import ExperimentConfig
from ..config.trainings import (
    FULL_SUPERVISION,
    labelled_images,
    load_estimator,
    make_estimator,
    make_strategy,
    training_of,
    training_steps,
)
from ..store.detections import read_detections, write_detections
from ..store.layout import Cell, Run
from ..store.loss_record import LossRecord, Report
from ..store.records import (
    DETECTIONS,
    LABELLED,
    METRICS,
    MODEL,
    SELECTED,
    SELECTED_COLUMNS,
    TRAINED,
    TRAINING,
    read_record,
    training_done,
)
from ..store.replay import take_over
from ..store.splits import initial_rows
from ..store.stored import CHECKSUMS, as_json, read_sums, required, seal, write_lines, write_rows, write_sums

logger = logging.getLogger("miaod_plugin")

SCORES = ("ap50", "ap", "per_class", "uncertainty", "agreement")


@dataclass(frozen=True)
class Experiment:
    """What every cycle of a run works with."""

    config: ExperimentConfig
    run: Run
    train: DetectionData
    test: DetectionData

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        return {name: row for row, name in enumerate(self.train.ids.tolist())}

    @cached_property
    def costs(self) -> np.ndarray:
        """What annotating each training image costs, in the unit of the budget."""
        return annotation_costs(self.train.y, self.config.budget)

    def rows(self, ids: Sequence[str], where: Path) -> np.ndarray:
        """Return the rows of images by their ids, which were read from the files of a cell."""
        for name in ids:
            if name not in self.row_of:
                raise DataError(f"{where}: {shown(name)} is not an image of data.train")
        return np.array([self.row_of[name] for name in ids], dtype=np.int64)

    def initial_set(self, seed: int) -> np.ndarray:
        """Return the sorted rows of the images that are labelled before the first query."""
        return initial_rows(self.config, self.train.ids, self.costs, seed)

    def steps(self, cell: Cell) -> int:
        """Return the optimiser steps of the cell's training: those for as many images as its budget buys on average.

        Where budgets count boxes or seconds, arms label different numbers of images, yet train equally long.
        """
        n_images = labelled_images(self.config, cell.training, cell.cycle, len(self.train), self.costs.mean())
        return training_steps(self.config, cell.training, n_images)


def run_cycle(experiment: Experiment, cell: Cell, report: Report) -> None:
    """Do what is left of one cycle and write its ``metrics.json``."""
    folder = experiment.run.folder(cell)
    labelled = annotate(experiment, cell)
    if cell.cycle == 0:
        adopt_training(experiment.run, cell)
    training = teach(experiment, cell, labelled, report)

    estimator = load_estimator(experiment.config, folder / MODEL, experiment.run.pixels)
    scores = score(experiment, cell, estimator, report)
    query_seconds = query(experiment, cell, estimator, labelled, report) if experiment.run.asks(cell) else None

    boxes = sum(len(target["labels"]) for target in experiment.train.y[labelled])
    identity = {"arm": cell.arm, "training": cell.training, "seed": cell.seed, "cycle": cell.cycle}
    budget = None if cell.training == FULL_SUPERVISION else experiment.config.budgets[cell.cycle]
    spent = float(experiment.costs[labelled].sum())
    counts = {"budget": budget, "spent": spent, "images": len(labelled), "boxes": boxes}
    metrics = {**identity, **counts, **scores, **training, "query_seconds": query_seconds}
    selected = [SELECTED] * experiment.run.asks(cell)
    seal(folder / METRICS, as_json(metrics), [LABELLED, *TRAINED, *selected])


def annotate(experiment: Experiment, cell: Cell) -> np.ndarray:
    """Return the rows of the labelled images, and write down their ids."""
    labelled = labelled_rows(experiment, cell)
    write_lines(experiment.run.folder(cell) / LABELLED, experiment.train.ids[labelled])
    return labelled


def labelled_rows(experiment: Experiment, cell: Cell) -> np.ndarray:
    """Return the rows of the labelled images: all, the initial set, or the last cycle's with what it selected."""
    if cell.training == FULL_SUPERVISION:
        return np.arange(len(experiment.train))
    if cell.cycle == 0:
        return experiment.initial_set(cell.seed)
    last = Cell(cell.seed, cell.cycle - 1, cell.training, cell.arm)
    folder = experiment.run.folder(last)
    return experiment.rows(required(read_record(experiment.run, last), folder / METRICS).next_labelled(), folder)


def adopt_training(run: Run, cell: Cell) -> None:
    """Take over the cycle-0 training that all arms of a training share: an arm's from the shared cell.

    The shared cell takes it over too, from an arm, if its own is lost: then arms that come later start where the
    others did, also where training again would not give the same bits.
    """
    if training_done(run, cell) is not None:
        return
    shared, folder = Cell(cell.seed, 0, cell.training), run.folder(cell)
    source = next((one for one in ([shared] if cell.arm else run.next_cells(cell)) if training_done(run, one)), None)
    if source is None:
        if cell.arm:
            raise DataError(f"{run.folder(shared) / MODEL}: missing or damaged; start the run again to train it anew")
        return
    if cell.arm:
        _require_what_others_began_with(run, shared, cell)
    for name in (*TRAINED, CHECKSUMS):
        (folder / name).unlink(missing_ok=True)
    for name in TRAINED[:-1]:
        _link(run.folder(source) / name, folder / name)
    if (sums := read_sums(run.folder(source))) is not None:
        write_sums(folder, {name: sums[name] for name in (LABELLED, *TRAINED)})
    _link(run.folder(source) / TRAINING, folder / TRAINING)


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, path)


def _require_what_others_began_with(run: Run, shared: Cell, cell: Cell) -> None:
    ours = (read_sums(run.folder(shared)) or {}).get(MODEL)
    for other in run.next_cells(shared):
        theirs = (read_sums(run.folder(other)) or {}).get(MODEL)
        if other != cell and ours and theirs and ours != theirs:
            raise DataError(
                f"{run.folder(shared) / MODEL}: was lost and trained again, not to the weights that {other.arm} began"
                " with; arms that start from it would not compare: use another name, or --fresh"
            )


def teach(experiment: Experiment, cell: Cell, labelled: np.ndarray, report: Report) -> dict:
    """Train on the labelled images unless that is done; leave the model behind and return what was measured."""
    folder, config, train = experiment.run.folder(cell), experiment.config, experiment.train
    if (done := training_done(experiment.run, cell)) is not None:
        return done
    (folder / TRAINING).unlink(missing_ok=True)
    pool = np.setdiff1d(np.arange(len(train)), labelled)
    unlabelled, training = pool[:0], training_of(config, cell.training)
    if training.uses_unlabeled:
        whole = training.whole_pool
        unlabelled = pool if whole else unlabelled_subset(pool, len(labelled), cell.seed, cell.cycle)
    write_lines(folder / "unlabelled.txt", train.ids[unlabelled])

    half_trained = folder / "half_trained.ckpt"
    discard_damaged(half_trained)
    losses, steps = LossRecord(folder / "losses.jsonl", report), experiment.steps(cell)
    estimator = make_estimator(
        config,
        cell.training,
        train.classes,
        steps=steps,
        random_state=random_state(cell.seed, "training", cell.cycle),
        checkpoint=half_trained,
        on_step=losses,
        cache=experiment.run.pixels,
    )
    estimator.fit(train.X[labelled], train.y[labelled], unlabeled=train.X[unlabelled] if len(unlabelled) else None)
    (folder / MODEL).unlink(missing_ok=True)  # whatever was there is this cell's
    estimator.save(folder / MODEL)
    done = {"training": cell.training, "seed": cell.seed, "cycle": cell.cycle}
    done |= {"steps": steps, "losses": losses.last_means(), "train_seconds": losses.seconds()}
    seal(folder / TRAINING, as_json(done), [LABELLED, *TRAINED[:-1]])
    return done


def score(experiment: Experiment, cell: Cell, estimator, report: Report) -> dict:
    """Return what the cycle's model, the last one of its training, is worth on the test images.

    Beside the average precision, what stopping rules look at, for which the test images are but a fixed set.

    The model that all arms of a training start from was scored when it was trained.
    """
    if cell.arm and cell.cycle == 0:
        shared, run = Cell(cell.seed, 0, cell.training), experiment.run
        metrics = required(read_record(run, shared), run.folder(shared) / METRICS).metrics
        return {name: metrics[name] for name in SCORES if name in metrics}
    report("scoring")
    predictions = estimator.predict(experiment.test.X)
    write_detections(experiment.run.folder(cell) / DETECTIONS, predictions)
    scores = average_precision(predictions, experiment.test, experiment.config.evaluation.metric)
    before = _detections_before(experiment, cell)
    agreed = None if before is None else agreement(predictions, before)
    return scores | {"uncertainty": uncertainty(predictions), "agreement": agreed}


def _detections_before(experiment: Experiment, cell: Cell) -> list[dict] | None:
    """Return what the model of the cycle before found in the test images; None in the first cycle, or if it is lost."""
    if cell.cycle == 0:
        return None
    last = cell.cycle - 1
    before = Cell(cell.seed, last, cell.training, cell.arm if last else "")  # the first is scored where arms share it
    try:
        return read_detections(experiment.run.folder(before) / DETECTIONS, len(experiment.test))
    except DataError as error:
        logger.warning("%s; how far the next model agrees with them is left out", error)
        return None


def average_precision(predictions: Sequence[dict], test: DetectionData, metric: str) -> dict:
    """Return ``ap50`` and ``per_class`` of detections, and ``ap`` where COCO's is the metric (`schema.Evaluation`)."""
    if metric == "coco":
        result = coco_average_precision(predictions, test.y, len(test.classes))
        scores = {"ap50": result["ap50"], "ap": result["ap"]}
    else:
        result = voc_average_precision(predictions, test.y, len(test.classes), method=metric.removeprefix("voc_"))
        scores = {"ap50": result["map"]}
    return {**scores, "per_class": dict(zip(test.classes, result["per_class"], strict=True))}


def query(experiment: Experiment, cell: Cell, estimator, labelled: np.ndarray, report: Report) -> float | None:
    """Ask which images to annotate next, write them down, best first, and return the seconds it took.

    Images are taken best first until the next budget is reached; the last may go beyond it, and beyond those after it.
    Where the experiment replays another run, its picks are taken over, nobody is asked, and ``None`` returned.
    Where what is labelled reaches the next budget already, as it does when nothing is left to label, nobody is asked,
    nothing is picked, and ``None`` returned. The next cycle then trains on the same images, for as many steps as every
    arm does at its budget.
    """
    if experiment.config.replay is not None:
        take_over(experiment.run, cell, experiment.train.ids[labelled].tolist())
        return None
    report("querying")
    config, train, folder = experiment.config, experiment.train, experiment.run.folder(cell)
    arm = next(arm for arm in config.arms if arm.name == cell.arm)
    pool = np.setdiff1d(np.arange(len(train)), labelled)
    costs = experiment.costs[pool]
    to_spend = config.budgets[cell.cycle + 1] - experiment.costs[labelled].sum()
    at_most = most_images(costs, to_spend)

    start = time.perf_counter()
    rows, spent = [], 0.0
    if at_most:
        strategy = make_strategy(config, arm, random_state(cell.seed, "query", cell.cycle))
        known = train.X[labelled], train.y[labelled]  # what it learned from is not in the model's file
        for index, utility in strategy.ranking(estimator, train.X[pool], at_most, labeled=known):
            rows.append({"rank": len(rows) + 1, "id": train.ids[pool[index]], "utility": repr(float(utility))})
            spent += costs[index]
            if spent >= to_spend:
                break
    seconds = time.perf_counter() - start
    write_rows(folder / SELECTED, rows, SELECTED_COLUMNS)
    return seconds if at_most else None
