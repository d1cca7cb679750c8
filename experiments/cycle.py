"""One cycle of active learning, top to bottom: annotate, teach, score, query.

Nothing passes from cycle to cycle in memory: a cycle reads what the last one wrote. Training leaves a file behind that
says that it is done, and what follows always uses the saved model, so that a cycle that was stopped anywhere and
started again ends with the same result, on a CPU with the same bits.
"""

import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from miaod_plugin.checkpoint import discard_damaged
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.experiments.layout import Cell, Run, read_json, read_lines, write_json, write_lines, write_rows
from miaod_plugin.experiments.sampling import annotation_costs, most_images, random_state, unlabelled_subset
from miaod_plugin.experiments.schema import ExperimentConfig
from miaod_plugin.experiments.splits import initial_rows
from miaod_plugin.experiments.trainings import (
    FULL_SUPERVISION,
    labelled_images,
    load_estimator,
    make_estimator,
    make_strategy,
    optimiser_steps,
    uses_unlabelled,
)
from miaod_plugin.files import write_text
from miaod_plugin.metrics import coco_average_precision, voc_average_precision

Report = Callable[..., None]  # report(stage, step=0, total=0)


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

    def initial_set(self, seed: int) -> np.ndarray:
        """Return the sorted rows of the images that are labelled before the first query."""
        return initial_rows(self.config, self.train.ids, self.costs, seed)

    def steps(self, cell: Cell) -> int:
        """Return the optimiser steps of the cell's training: those for as many images as its budget buys on average.

        Where budgets count boxes or seconds, arms label different numbers of images, yet train equally long.
        """
        n_images = labelled_images(self.config, cell.training, cell.cycle, len(self.train), self.costs.mean())
        return optimiser_steps(self.config, n_images)


def run_cycle(experiment: Experiment, cell: Cell, report: Report) -> None:
    """Do what is left of one cycle and write its ``metrics.json``."""
    folder = experiment.run.folder(cell)
    labelled = annotate(experiment, cell)
    if cell.arm and cell.cycle == 0:
        adopt_shared_model(experiment, cell)
    training = teach(experiment, cell, labelled, report)

    estimator = load_estimator(experiment.config, cell.training, folder / "model.safetensors")
    # what it learned from is not in the model's file, but some strategies start from it
    estimator.X_labeled_, estimator.y_labeled_ = experiment.train.X[labelled], experiment.train.y[labelled]
    scores = score(experiment, cell, estimator, report)
    query_seconds = query(experiment, cell, estimator, labelled, report) if experiment.run.asks(cell) else None

    boxes = sum(len(target["labels"]) for target in experiment.train.y[labelled])
    identity = {"arm": cell.arm, "training": cell.training, "seed": cell.seed, "cycle": cell.cycle}
    budget = None if cell.training == FULL_SUPERVISION else experiment.config.budgets[cell.cycle]
    spent = float(experiment.costs[labelled].sum())
    counts = {"budget": budget, "spent": spent, "images": len(labelled), "boxes": boxes}
    write_json(folder / "metrics.json", {**identity, **counts, **scores, **training, "query_seconds": query_seconds})


def annotate(experiment: Experiment, cell: Cell) -> np.ndarray:
    """Return the rows of the labelled images: all, the initial set, or the last cycle's with what it selected."""
    train = experiment.train
    if cell.training == FULL_SUPERVISION:
        labelled = np.arange(len(train))
    elif cell.cycle == 0:
        labelled = experiment.initial_set(cell.seed)
    else:
        last = experiment.run.folder(Cell(cell.seed, cell.cycle - 1, cell.training, cell.arm))
        with open(last / "selected.csv", newline="", encoding="utf-8") as file:
            selected = [row["id"] for row in csv.DictReader(file)]
        labelled = np.array([experiment.row_of[name] for name in read_lines(last / "labelled.txt") + selected])
    write_lines(experiment.run.folder(cell) / "labelled.txt", train.ids[labelled])
    return labelled


def adopt_shared_model(experiment: Experiment, cell: Cell) -> None:
    """Take over the files of the cycle-0 training that all arms of this training share."""
    shared, folder = experiment.run.folder(Cell(cell.seed, 0, cell.training)), experiment.run.folder(cell)
    for name in ("unlabelled.txt", "losses.jsonl", "model.safetensors", "training.json"):
        if not (folder / name).exists():
            try:
                os.link(shared / name, folder / name)
            except OSError:  # a file system without hard links
                shutil.copyfile(shared / name, folder / name)


def teach(experiment: Experiment, cell: Cell, labelled: np.ndarray, report: Report) -> dict:
    """Train on the labelled images unless that is done; leave the model behind and return what was measured."""
    folder, config, train = experiment.run.folder(cell), experiment.config, experiment.train
    if (done := read_json(folder / "training.json")) is not None:
        return done
    pool = np.setdiff1d(np.arange(len(train)), labelled)
    unlabelled = unlabelled_subset(pool, len(labelled), cell.seed, cell.cycle)
    if not uses_unlabelled(cell.training):
        unlabelled = unlabelled[:0]
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
    )
    estimator.fit(train.X[labelled], train.y[labelled], unlabeled=train.X[unlabelled] if len(unlabelled) else None)
    (folder / "model.safetensors").unlink(missing_ok=True)  # whatever was there is this cell's
    estimator.save(folder / "model.safetensors")
    done = {"steps": steps, "losses": losses.last_means(), "train_seconds": losses.seconds()}
    write_json(folder / "training.json", done)
    return done


def score(experiment: Experiment, cell: Cell, estimator, report: Report) -> dict:
    """Return the average precision of the cycle's model, the last one of its training, on the test images.

    The model that all arms of a training start from was scored when it was trained.
    """
    if cell.arm and cell.cycle == 0:
        shared = read_json(experiment.run.folder(Cell(cell.seed, 0, cell.training)) / "metrics.json")
        return {name: shared[name] for name in ("ap50", "ap", "per_class") if name in shared}
    report("scoring")
    return average_precision(estimator, experiment.test, experiment.config.evaluation.metric)


def average_precision(estimator, test: DetectionData, metric: str) -> dict:
    """Return ``ap50`` and ``per_class`` of a detector, and ``ap`` where COCO's is the metric (`schema.Evaluation`)."""
    predictions = estimator.predict(test.X)
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
    Where what is labelled reaches the next budget already, as it does when nothing is left to label, nobody is asked,
    nothing is picked, and ``None`` returned. The next cycle then trains on the same images, for as many steps as every
    arm does at its budget.
    """
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
        strategy = make_strategy(arm, random_state(cell.seed, "query", cell.cycle))
        for index, utility in strategy.ranking(estimator, train.X[pool], at_most):
            rows.append({"rank": len(rows) + 1, "id": train.ids[pool[index]], "utility": repr(float(utility))})
            spent += costs[index]
            if spent >= to_spend:
                break
    seconds = time.perf_counter() - start
    write_rows(folder / "selected.csv", rows, ("rank", "id", "utility"))
    return seconds if at_most else None


class LossRecord:
    """Writes each optimiser step to ``losses.jsonl`` as it happens; a resumed training continues the file."""

    def __init__(self, path: Path, report: Report):
        self._path, self._report = path, report
        self._start, self._before = time.perf_counter(), 0.0
        self.step = 0

    def __call__(self, event: dict) -> None:
        if self.step == 0:
            self._continue_at(event["step"])
        self.step = event["step"]
        row = {"seconds": round(self.seconds(), 3), **{name: event[name] for name in ("step", "round", "losses")}}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._report("training", self.step, event["total"])

    def _continue_at(self, step: int) -> None:
        kept = [row for row in read_losses(self._path) if row["step"] < step] if step > 1 else []
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._before = kept[-1]["seconds"] if kept else 0.0

    def seconds(self) -> float:
        """Return the training time so far, that before an interruption included."""
        return self._before + time.perf_counter() - self._start

    def last_means(self, n_steps: int = 50) -> dict[str, float]:
        """Return the mean of each loss over the last steps."""
        values: dict[str, list[float]] = {}
        for row in read_losses(self._path)[-n_steps:]:
            for name, value in row["losses"].items():
                values.setdefault(name, []).append(value)
        return {name: sum(series) / len(series) for name, series in values.items()}


def read_losses(path: Path) -> list[dict]:
    """Return the steps recorded in a ``losses.jsonl``; a last line cut off by a power failure is left out."""
    rows = []
    for line in read_lines(path) if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
