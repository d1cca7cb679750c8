"""What an experiment comes to, before it is run: cells, images, optimiser steps, and the time they take here."""

import copy
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console, Group
from rich.table import Table

from miaod_plugin.committee import Committee
from miaod_plugin.data import image_size, make_targets
from miaod_plugin.errors import ConfigError
from miaod_plugin.progress import duration
from miaod_plugin.registry import DETECTORS, find

from ..config.sampling import annotation_costs
from ..config.schema import ExperimentConfig
from ..config.sections import FULL_SUPERVISION
from ..config.trainings import (
    labelled_images,
    make_estimator,
    make_strategy,
    optimiser_steps,
    preparing_steps,
    training_of,
    training_steps,
)
from ..report.tables import seeds
from ..store.datasets import load_data, require_affordable
from ..store.environment import threads_of_each
from ..store.layout import Run
from ..store.records import unfinished
from ..store.splits import initial_rows

MOST_STEPS = 24  # are measured of each training, spread over its rounds; fewer once SECONDS have passed
LEAST_STEPS = 3
SECONDS = 15.0


@dataclass(frozen=True)
class Pool:
    """What planning needs to know of a data set."""

    n_train: int
    n_test: int
    mean_cost: float  # of annotating an image, in the unit of the budget
    classes: tuple[str, ...]
    image: tuple[int, int]  # (height, width) in pixels
    sample: tuple[np.ndarray, np.ndarray]  # images and targets to measure with
    source: str


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine."""

    step: dict[str, float]  # an optimiser step, by training
    detect: dict[str, float]  # detecting in one image, by training
    query: dict[str, float]  # rating one image, by arm
    measured: int  # optimiser steps


def show_plan(config: ExperimentConfig, out: str | Path = "runs", console: Console | None = None) -> None:
    """Print the plan of an experiment. Trains only the few steps that are measured, and writes nothing.

    Raises
    ------
    ConfigError, DataError
        As `run_experiment`, but for a missing data set for which ``data.sizes`` stands in.
    """
    console = console or Console()
    run, pool = Run(config, out), describe_pool(config)
    console.print(cycles_table(run, pool), highlight=False, soft_wrap=True)
    with console.status("measuring a few steps of each training"):
        speed = measure(config, pool)
    console.print(times_table(run, pool, speed), highlight=False, soft_wrap=True)


def describe_pool(config: ExperimentConfig, n_sample: int = 16) -> Pool:
    """Return the sizes of the data set, or where it is missing those that the experiment tells."""
    if told := config.data.told_sizes():
        cost = _told_cost(config)
        require_affordable(config, cost * told.train)
        for seed in config.seeds if config.initial else ():
            initial_rows(config, [""] * told.train, np.ones(told.train), seed)
        classes = tuple(config.data.classes or map(str, range({"voc": 20, "coco": 80}[config.data.kind])))
        sample = random_images(n_sample, told.image, len(classes))
        return Pool(
            told.train, told.test, cost, classes, told.image, sample, "as data.sizes tells, for want of the data"
        )
    train, test = load_data(config)
    costs = annotation_costs(train.y, config.budget)
    for seed in config.seeds:
        initial_rows(config, train.ids, costs, seed)
    cost = float(costs.mean())
    sample = train.X[:n_sample], train.y[:n_sample]
    return Pool(len(train), len(test), cost, train.classes, image_size(train.X[0]), sample, "in the data set")


def _told_cost(config: ExperimentConfig) -> float:
    budget, told = config.budget, config.data.sizes
    if budget.unit != "images" and told.boxes is None:
        raise ConfigError(
            f"{config.source}: data.sizes.boxes: missing; without the data, budgets in {budget.unit} need it"
        )
    if budget.unit == "seconds":
        return budget.per_image + budget.per_box * told.boxes / told.train
    return told.boxes / told.train if budget.unit == "boxes" else 1.0


def random_images(n: int, size: tuple[int, int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with three boxes an image, for measuring: speed hardly depends on what is to be seen."""
    rng, (height, width) = np.random.default_rng(0), size
    box = np.array([[0.1, 0.1, 0.4, 0.5], [0.3, 0.2, 0.9, 0.8], [0.5, 0.5, 0.7, 0.9]]) * [width, height, width, height]
    targets = [{"boxes": box.astype(np.float32), "labels": rng.integers(n_classes, size=3)} for _ in range(n)]
    return rng.integers(256, size=(n, height, width, 3), dtype=np.uint8), make_targets(targets)


def cycles_table(run: Run, pool: Pool) -> Group:
    """Return the cycles with their budgets, images and optimiser steps, and what the whole grid comes to."""
    config, shared = run.config, run.shared_cells()
    about = "" if config.budget.unit == "images" else "about "
    table = Table("cycle", config.budget.words, "new images", "images in all", "optimiser steps")
    for column in table.columns:
        column.justify = "right"
    before = 0
    for cycle, budget in enumerate(config.budgets):
        images = labelled_images(config, "", cycle, pool.n_train, pool.mean_cost)
        first = f"{about}{images} {'at random' if config.initial is None else 'of `initial`'}"
        new = f"{about}{images - before}" if cycle else first
        table.add_row(str(cycle), str(budget), new, f"{about}{images}", f"{optimiser_steps(config, images):,}")
        before = images
    if config.full_supervision:
        steps = training_steps(config, FULL_SUPERVISION, pool.n_train)
        table.add_row("full", "all", "", str(pool.n_train), f"{steps:,}")
    cells = shared + run.arm_cells()
    grid = f"{len(config.arms)} arms x {seeds(len(config.seeds))} x {len(config.budgets)} cycles"
    return Group(
        f"{config.name}: {pool.n_train:,} training and {pool.n_test:,} test images {pool.source},"
        f" {pool.image[0]} x {pool.image[1]} pixels",
        table,
        f"{grid} = {len(run.arm_cells())} cells, on top of {len(shared)} trainings that arms share;"
        f" {len(cells) - len(unfinished(run))} of {len(cells)} finished in {run.root}",
    )


def times_table(run: Run, pool: Pool, speed: Speed) -> Group:
    """Return the time of what is not finished, by training, scoring and querying."""
    config = run.config
    left = unfinished(run)
    trained = [cell for cell in left if cell.cycle or not cell.arm]  # and scored: arms share the first cycle's model
    table = Table("what", "how many", "each (s)", "all")
    for column in table.columns[1:]:
        column.justify = "right"
    total = 0.0

    def add(what: str, count: int, each: float) -> None:
        nonlocal total
        total += count * each
        table.add_row(what, f"{count:,}", f"{each:.3g}", duration(count * each))

    for training, each in speed.step.items():
        own = [cell for cell in trained if cell.training == training]
        images = [labelled_images(config, training, cell.cycle, pool.n_train, pool.mean_cost) for cell in own]
        add(f"optimiser steps, {training}", sum(training_steps(config, training, n) for n in images), each)
    detect = [speed.detect[cell.training] for cell in trained]
    add("test images to detect in", pool.n_test * len(trained), sum(detect) / max(1, len(detect)))
    for arm in config.arms if config.replay is None else ():
        asking = [cell for cell in left if cell.arm == arm.name and run.asks(cell)]
        images = [labelled_images(config, cell.training, cell.cycle, pool.n_train, pool.mean_cost) for cell in asking]
        add(f"pool images to rate, {arm.name}", sum(pool.n_train - n for n in images), speed.query[arm.name])
        if steps := sum(preparing_steps(config, arm, n) for n in images):
            add(f"optimiser steps in queries, {arm.name}", steps, speed.step[arm.training])
    return Group(
        table,
        f"about {duration(total / config.jobs)} on this machine with {config.jobs} at a time, by {speed.measured}"
        " measured steps without pretrained weights",
    )


def measure(config: ExperimentConfig, pool: Pool) -> Speed:
    """Train and query for a moment, with random weights, on the sample."""
    options = dict(config.detector.options)
    if "weights" in inspect.signature(find(DETECTORS, config.detector.name)).parameters:
        options["weights"] = None  # nothing is downloaded
    config = config.model_copy(
        update={
            "detector": config.detector.model_copy(update={"options": options}),
            "training": config.training | {"num_workers": 0, "learning_rate": 0.0},
        }
    )
    step, detect, query, measured = {}, {}, {}, 0
    X, y = pool.sample
    with as_a_worker(config):
        for training in dict.fromkeys(cell.training for cell in Run(config, "").shared_cells()):
            estimator, times = train_a_moment(config, pool, training)
            step[training] = float(np.mean(times))
            measured += len(times)
            few = X if step[training] < 1 else X[:1]
            detect[training] = _seconds(estimator.predict, few) / len(few)
            for arm in config.arms:
                if arm.training == training and config.replay is None:
                    strategy = make_strategy(config, arm, 0)
                    n_detectors = strategy.n_detectors
                    asked = Committee([estimator] * n_detectors) if n_detectors > 1 else estimator
                    ask = partial(strategy.select, labeled=(few[:1], y[:1]))
                    query[arm.name] = _seconds(ask, asked, few, 1) / len(few)
    return Speed(step, detect, query, measured)


class _EnoughError(Exception):
    """Ends a training that has been measured."""


def train_a_moment(config: ExperimentConfig, pool: Pool, training: str) -> tuple[object, list[float]]:
    """Return a detector that has begun to train, and the seconds of its steps after the first."""
    ends: list[float] = []
    begun = []

    def on_step(event: dict) -> None:
        ends.append(time.perf_counter())
        if len(ends) >= LEAST_STEPS and ends[-1] - ends[0] > SECONDS:
            begun.append(copy.copy(estimator))  # a fit that ends so leaves nothing behind
            raise _EnoughError

    estimator = make_estimator(
        config, training, pool.classes, steps=MOST_STEPS, random_state=0, checkpoint=None, on_step=on_step
    )
    X, y = pool.sample
    with suppress(_EnoughError):
        estimator.fit(X, y, unlabeled=X if training_of(config, training).uses_unlabeled else None)
    return begun[0] if begun else estimator, np.diff(ends).tolist()


@contextmanager
def as_a_worker(config: ExperimentConfig) -> Iterator[None]:
    """Set torch up as the worker processes do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads_of_each(config))
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


def _seconds(call: Callable, *arguments) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start
