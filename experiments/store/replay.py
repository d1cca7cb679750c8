"""Selections of another run, which arms take over instead of asking: are they as good for a second detector?"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from miaod_plugin.errors import ConfigError, DataError, did_you_mean

from ..config.schema import ExperimentConfig
from .layout import Cell, Run, begun_with, open_run
from .records import SELECTED, SELECTED_COLUMNS, read_record, survey
from .stored import required, write_rows


def require_replayable(config: ExperimentConfig, data: Mapping[str, dict]) -> None:
    """Check that the run which `config.replay` names has selected all that its experiment takes over.

    Parameters
    ----------
    data : mapping
        What the parts of the data set are, by name, the initial sets among them; see `datasets.describe`.

    Raises
    ------
    ConfigError, DataError
        In one line: if the folder holds no run, or its data, initial sets, budgets, arms or seeds are others, or a
        selection is missing.
    """
    replayed, where = open_run(config.replay), f"{config.source}: replay: the run in {config.replay}"
    begun = begun_with(replayed)
    for seed in config.seeds:
        if seed not in replayed.config.seeds:
            raise ConfigError(f"{where} has no seed {seed}; it has {', '.join(map(str, replayed.config.seeds))}")
    for part, now in data.items():
        if begun.get(part) != now:
            raise DataError(f"{where} began with other data: {part} is not the same; give both the same data set")
    if replayed.config.budget != config.budget or replayed.config.budgets[: len(config.budgets)] != config.budgets:
        raise ConfigError(f"{where} has the budgets {replayed.config.budgets}; give those, or the first of them")
    theirs = {arm.name: (arm.strategy, arm.options) for arm in replayed.config.arms}
    for arm in config.arms:
        if arm.name not in theirs:
            raise ConfigError(f"{where} has no arm {arm.name!r}{did_you_mean(arm.name, theirs)}")
        if theirs[arm.name] != (arm.strategy, arm.options):
            raise ConfigError(
                f"{where} has another strategy, or options, for {arm.name!r}; give {theirs[arm.name][0]!r}"
            )
    stored = survey(replayed)
    for arm, seed, cycle in product(config.arms, config.seeds, range(len(config.budgets) - 1)):
        cell = Cell(seed, cycle, replayed.trainings[arm.name], arm.name)
        if not stored.finished(replayed, cell):
            raise ConfigError(f"{where} has not finished {cell}; go on with it first")


def take_over(run: Run, cell: Cell, labelled: list[str]) -> None:
    """Write down as picked what the replayed run has picked in the same cycle of the same arm and seed.

    Raises
    ------
    DataError
        If that is missing or damaged, or was picked with other images labelled than `labelled`.
    """
    replayed = open_run(run.config.replay)
    theirs = replace(cell, training=replayed.trainings[cell.arm])
    record = required(read_record(replayed, theirs), replayed.folder(theirs))
    if record.labelled != labelled:
        raise DataError(
            f"{replayed.folder(theirs)}: has labelled other images than {run.root}, which began to replay it"
        )
    picked = required(record.selected, replayed.folder(theirs) / SELECTED)
    rows = [
        {"rank": rank, "id": one["id"], "utility": repr(one["utility"])} for rank, one in enumerate(picked, start=1)
    ]
    write_rows(run.folder(cell) / SELECTED, rows, SELECTED_COLUMNS)
