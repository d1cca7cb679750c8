"""The folder of a run: where every cell keeps its files, who may write to it, and what may change between two starts.

runs/NAME/
    config.yaml data.json       the resolved experiment, and a digest of its data
    environment.json            versions and hardware
    report.html results.csv results.md curves.png curves.svg run.log tensorboard/ARM/seedK/
    shared/seedK/TRAINING/      the cycle-0 model that all arms of this training start from, or full supervision
    arms/ARM/seedK/cycleN/      labelled.txt unlabelled.txt losses.jsonl training.json model.safetensors
                                selected.csv metrics.json (written last: with it, the cycle is finished)
"""

import csv
import fcntl
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.experiments.schema import ExperimentConfig
from miaod_plugin.experiments.trainings import FULL_SUPERVISION, training_of
from miaod_plugin.files import write_text
from miaod_plugin.training_identity import CHANGE_NO_RESULT

# Keys that do not change results, so that a run may go on with other values.
FREE = {"jobs", "device", "published", "initial"}  # the initial images themselves are compared


@dataclass(frozen=True, order=True)
class Cell:
    """One cycle of one arm and seed; without an arm, the training that all arms of `training` start from.

    The reference under full supervision is such a training too, from which no arm starts.
    """

    seed: int
    cycle: int
    training: str
    arm: str = ""

    def __str__(self) -> str:
        if self.training == FULL_SUPERVISION:
            return f"seed {self.seed}  full supervision"
        return f"seed {self.seed}  {self.arm or 'shared ' + self.training}  cycle {self.cycle}"


class Run:
    """A run's folder and the cells of its experiment."""

    def __init__(self, config: ExperimentConfig, out: str | Path):
        self.config = config
        self.root = Path(out) / config.name

    @cached_property
    def trainings(self) -> dict[str, str]:
        """The training of each arm, by name, in the order of the experiment file."""
        return {arm.name: training_of(arm) for arm in self.config.arms}

    def shared_cells(self) -> list[Cell]:
        """Return the cycle-0 trainings, each of which serves every arm of its seed and training, and the references."""
        trainings = list(dict.fromkeys(self.trainings.values()))
        trainings += [FULL_SUPERVISION] * self.config.full_supervision
        return [Cell(seed, 0, training) for seed in self.config.seeds for training in trainings]

    def next_cells(self, cell: Cell) -> list[Cell]:
        """Return the cells that can start once `cell` is finished."""
        if not cell.arm:
            arms = [arm for arm, training in self.trainings.items() if training == cell.training]
            return [Cell(cell.seed, 0, cell.training, arm) for arm in arms]
        following = cell.cycle + 1
        return [Cell(cell.seed, following, cell.training, cell.arm)] if following < len(self.config.budgets) else []

    def arm_cells(self) -> list[Cell]:
        """Return every cycle of every arm and seed, in the order of the experiment file."""
        return [
            Cell(seed, cycle, training, arm)
            for arm, training in self.trainings.items()
            for seed in self.config.seeds
            for cycle in range(len(self.config.budgets))
        ]

    def asks(self, cell: Cell) -> bool:
        """Whether the cell ends in a query: an arm's cell that another cycle follows."""
        return bool(cell.arm) and cell.cycle + 1 < len(self.config.budgets)

    def folder(self, cell: Cell) -> Path:
        """Return the folder of a cell."""
        if cell.arm:
            return self.root / "arms" / cell.arm / f"seed{cell.seed}" / f"cycle{cell.cycle}"
        return self.root / "shared" / f"seed{cell.seed}" / cell.training

    def finished(self, cell: Cell) -> bool:
        """Whether nothing of the cell is left to do."""
        folder = self.folder(cell)
        return (folder / "metrics.json").exists() and (not self.asks(cell) or (folder / "selected.csv").exists())

    def begun(self) -> bool:
        """Whether the run's folder holds an experiment."""
        return (self.root / "config.yaml").exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock, which the system releases when the process ends, however it ends."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"{self.root}: another process is working on this run; let it end first") from None
            yield

    def claim(self, data: dict[str, dict], fresh: bool = False) -> None:
        """Store the experiment in the run's folder, or check that it continues the one that is stored.

        Parameters
        ----------
        data : dict
            What the parts of the data set are, by name; see `datasets.describe`.
        fresh : bool, default=False
            Delete what is stored first.

        Raises
        ------
        ConfigError
            If the stored experiment differs in more than what may be added, see `changes`; names the changed keys.
        DataError
            If the data set is not the one that the run began with.
        """
        stored = self.root / "config.yaml"
        if fresh and stored.exists():
            for path in self.root.iterdir():
                if path.name != "lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        if stored.exists():
            old = read_config(stored)
            if changed := changes(old, self.config.model_dump(mode="json")):
                raise ConfigError(
                    f"{self.config.source}: differs from the run in {self.root}: {'; '.join(changed)}"
                    " (only arms, variants, seeds, later budgets and full supervision may be added;"
                    " use another name, or --fresh to start over)"
                )
            for part, then in (read_json(self.root / "data.json") or {}).items():
                if (now := data[part]) != then:
                    place = "initial images of " + part.removeprefix("initial.") if "." in part else f"data.{part}"
                    raise DataError(
                        f"{place}: not what the run in {self.root} began with ({then['images']} images with"
                        f" {then['boxes']} boxes then, {now['images']} with {now['boxes']} now);"
                        " use another name, or --fresh to start over"
                    )
        for left_over in self.root.glob("**/.*.part*"):
            left_over.unlink()  # a process that was killed was writing it, see `files.atomic_path`
        write_json(self.root / "data.json", data)
        write_text(stored, yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def read_config(stored: Path) -> dict:
    """Return the experiment that a run's folder holds, with the defaults of keys that came later."""
    old = yaml.safe_load(stored.read_text(encoding="utf-8"))
    with suppress(ValidationError):  # then the difference says what this version does not know
        return ExperimentConfig.model_validate(old).model_dump(mode="json")
    return old


def changes(old: dict, new: dict) -> list[str]:
    """Return 'key: old -> new' for every change that makes finished cells of `old` no part of `new`."""
    changed = []
    for key in sorted((old.keys() | new.keys()) - FREE):
        before, after = old.get(key), new.get(key)
        if key == "budgets":
            if after[: len(before)] != before:
                changed.append(f"budgets: {before} -> {after}")
        elif key == "training":
            parts = [{name: part[name] for name in part.keys() - CHANGE_NO_RESULT} for part in (before, after)]
            changed += _differences(*parts, key)
        elif key == "full_supervision":
            changed += ["full_supervision: the reference is gone"] * (bool(before) and not after)
        elif key == "seeds":
            changed += [f"seeds: {seed} is gone" for seed in before if seed not in after]
        elif key == "variants":
            used = {arm["training"] for arm in old["arms"]}
            for name in used & before.keys():
                changed += _differences(before[name], after.get(name), f"variants.{name}")
        elif key == "arms":
            arms = {arm["name"]: arm for arm in after}
            for arm in before:
                if arm["name"] in arms:
                    changed += _differences(arm, arms[arm["name"]], f"arms.{arm['name']}")
                else:
                    changed.append(f"arms: {arm['name']} is gone")
        else:
            changed += _differences(before, after, key)
    return changed


def _differences(old: Any, new: Any, key: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [line for name in names for line in _differences(old.get(name), new.get(name), f"{key}.{name}")]
    return [] if old == new else [f"{key}: {old!r} -> {new!r}"]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, one id each."""
    return path.read_text(encoding="utf-8").splitlines()


def write_lines(path: Path, lines) -> None:
    """Write one id a line, atomically."""
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_json(path: Path) -> dict | None:
    """Return the content of a JSON file, or None when there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_rows(path: Path, rows: list[dict], columns: Sequence[str] = ()) -> None:
    """Write dicts of equal keys as CSV with a header, atomically; `columns` names them where there may be no row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
