"""What is stored of a run's cells, checked: every reader of a run's files comes through here.

A cell counts once its ``metrics.json`` is there. One that is damaged counts no more than one that is not finished, and
neither do the cycles after it, which were built on it; the damage is told.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from miaod_plugin.errors import DataError, shown

from ..config.sections import FULL_SUPERVISION
from .layout import Cell, Run
from .stored import (
    is_there,
    parse_json,
    read_json,
    read_lines,
    read_rows,
    read_sums,
    read_text,
    require_fit,
    require_sealed,
    required,
)

logger = logging.getLogger("miaod_plugin")

METRICS, LABELLED, SELECTED = "metrics.json", "labelled.txt", "selected.csv"
DETECTIONS = "detections.safetensors"  # in the test images
MODEL, TRAINING = "model.safetensors", "training.json"
TRAINED = ("unlabelled.txt", "losses.jsonl", MODEL, TRAINING)  # what a training leaves behind, the last one last
SELECTED_COLUMNS = ("rank", "id", "utility")

Count = Annotated[int, Field(ge=0, le=1 << 53)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _from_0_to_1(value: float) -> float:
    if not (0 <= value <= 1 or math.isnan(value)):
        raise ValueError("a score is from 0 to 1, or nan where there is nothing to find")
    return value


Score = Annotated[float, AfterValidator(_from_0_to_1)]
Loss = Annotated[float, Field(allow_inf_nan=False)]


class _Metrics(BaseModel):
    """A ``metrics.json``."""

    model_config = ConfigDict(strict=True)

    arm: str
    training: str
    seed: Count
    cycle: Count
    budget: Count | None
    spent: Amount
    images: Count
    boxes: Count
    steps: Count
    ap50: Score
    ap: Score | None = None
    per_class: dict[str, Score | None]
    uncertainty: Amount | None = None
    agreement: Score | None = None
    losses: dict[str, Loss]
    train_seconds: Amount
    query_seconds: Amount | None


@dataclass(frozen=True)
class Record:
    """What a finished cell has measured, what it was trained on, and what its query picked.

    Attributes
    ----------
    metrics : dict
    labelled : list of str
        The ids of the labelled images, in the order in which they were labelled.
    selected : list of dict or None
        ``id`` and ``utility`` of each picked image, best first; None where nothing was asked.
    """

    metrics: dict
    labelled: list[str]
    selected: list[dict] | None

    def next_labelled(self) -> list[str]:
        """Return the ids of the images that are labelled in the next cycle."""
        return self.labelled + [picked["id"] for picked in self.selected or ()]


@dataclass(frozen=True)
class Survey:
    """The records of the cells that count, by cell, and a line for each damaged cell."""

    records: dict[Cell, Record]
    damage: list[str]

    def finished(self, run: Run, cell: Cell) -> bool:
        """Whether nothing of the cell is left to do."""
        return cell in self.records and not (run.asks(cell) and self.records[cell].selected is None)


def survey(run: Run) -> Survey:
    """Return the records of every cell that counts."""
    records: dict[Cell, Record] = {}
    damage: list[str] = []
    for chain in [[cell] for cell in run.shared_cells()] + run.chains():
        before = None
        for cell in chain:
            try:
                before = read_record(run, cell, before)
            except DataError as error:
                damage.append(f"{cell}: {error}")
                break
            if before is None:
                break
            records[cell] = before
    return Survey(records, damage)


def unfinished(run: Run) -> list[Cell]:
    """Return the cells that are left to do, damaged ones and those built on them among them."""
    found = survey(run)
    return [cell for cell in run.shared_cells() + run.arm_cells() if not found.finished(run, cell)]


def require_images(run: Run, ids: Iterable[str]) -> None:
    """Raise a DataError that names a cell with images that are not among these of the training part."""
    known = set(ids)
    for cell, record in survey(run).records.items():
        if strangers := set(record.next_labelled()) - known:
            raise DataError(f"{run.folder(cell)}: {shown(min(strangers))} is not an image of data.train")


def undamaged(run: Run) -> dict[Cell, Record]:
    """Return the records of the cells that count, and warn about the damaged ones."""
    found = survey(run)
    for line in found.damage:
        logger.warning("left out: %s; `miaod run` does the cell again", line)
    return found.records


def read_record(run: Run, cell: Cell, before: Record | None = None) -> Record | None:
    """Return what a finished cell has stored; None while it is not finished.

    Parameters
    ----------
    before : Record, optional
        That of the cycle before, which the cell must follow from.

    Raises
    ------
    DataError
        If a file is damaged, missing, of another cell, or does not fit the others; names it.
    """
    folder = run.folder(cell)
    text = read_text(folder / METRICS)
    if text is None:
        return None
    sums = read_sums(folder)
    asked = SELECTED in sums if sums is not None else is_there(folder / SELECTED)
    require_sealed(folder, [METRICS, LABELLED])
    metrics = parse_json(text, folder / METRICS)
    _check_metrics(run, cell, metrics, folder / METRICS)
    asked |= metrics["query_seconds"] is not None  # also where the checksums have lost that line
    require_sealed(folder, [SELECTED] * asked)
    labelled = read_lines(folder / LABELLED)
    if len(labelled) != metrics["images"]:
        raise DataError(f"{folder / LABELLED}: {len(labelled)} images, but {METRICS} says {metrics['images']}")
    _refuse_doubled(labelled, folder / LABELLED)
    if before is not None and labelled != before.next_labelled():
        raise DataError(f"{folder / LABELLED}: not what the cycle before it labelled and selected")
    selected = _selected(folder / SELECTED, labelled) if asked else None
    return Record(metrics, labelled, selected)


def _check_metrics(run: Run, cell: Cell, metrics: Any, path: Path) -> None:
    require_fit(_Metrics, metrics, path)
    full = cell.training == FULL_SUPERVISION
    expected = {"arm": cell.arm, "training": cell.training, "seed": cell.seed, "cycle": cell.cycle}
    expected["budget"] = None if full else run.config.budgets[cell.cycle]
    if run.config.budget.unit == "images" and not full:
        expected["images"] = run.config.budgets[cell.cycle]
    for name, value in expected.items():
        if metrics[name] != value:
            raise DataError(f"{path}: {name}: {shown(metrics[name])}, but this cell has {value!r}")
    if run.config.evaluation.metric == "coco" and metrics.get("ap") is None:
        raise DataError(f"{path}: ap: missing, though the experiment is scored by it")


def _refuse_doubled(ids: list[str], path: Path) -> None:
    if len(set(ids)) < len(ids):
        name, count = Counter(ids).most_common(1)[0]
        raise DataError(f"{path}: {shown(name)} stands there {count} times")


def _selected(path: Path, labelled: list[str]) -> list[dict]:
    rows = required(read_rows(path, SELECTED_COLUMNS), path)
    for rank, row in enumerate(rows, start=1):
        if row["rank"] != str(rank):
            raise DataError(f"{path}: row {rank}: the rank is {shown(row['rank'])}")
    _refuse_doubled([row["id"] for row in rows], path)
    if again := {row["id"] for row in rows} & set(labelled):
        raise DataError(f"{path}: {shown(min(again))} was labelled before")
    return [{"id": row["id"], "utility": _utility(row, path)} for row in rows]


def _utility(row: dict, path: Path) -> float:
    try:
        value = float(row["utility"])
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise DataError(f"{path}: row {row['rank']}: the utility {shown(row['utility'])} is not a number")
    return value


def model_path(run: Run, cell: Cell) -> Path:
    """Return where a finished cell's model is, which is as it was written.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    path = run.folder(cell) / MODEL
    if not is_there(path):
        raise DataError(f"{path}: is missing")
    require_sealed(path.parent, [MODEL])
    return path


def training_done(run: Run, cell: Cell) -> dict | None:
    """Return the ``training.json`` of a cell whose training is done, on the images that its ``labelled.txt`` names.

    None where it is not done, or what it left behind is damaged.
    """
    folder = run.folder(cell)
    try:
        if not is_there(folder / TRAINING) or not all(is_there(folder / name) for name in TRAINED):
            return None
        require_sealed(folder, [LABELLED, *TRAINED])
        done = read_json(folder / TRAINING)
        identity = {"training": cell.training, "seed": cell.seed, "cycle": cell.cycle}
        require_fit(_Training, done, folder / TRAINING)
    except DataError:
        return None
    return done if all(done.get(name, value) == value for name, value in identity.items()) else None


class _Training(BaseModel):
    """A ``training.json``; those of earlier versions do not say of which cell."""

    model_config = ConfigDict(strict=True)

    steps: Count
    losses: dict[str, Loss]
    train_seconds: Amount
