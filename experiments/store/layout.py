"""The folder of a run: where every cell keeps its files, who may write to it, and what may change between two starts.

runs/NAME/
    config.yaml data.json       the resolved experiment, and a digest of its data
    environment.json            versions and hardware
    pixels.cache                the images, decoded, while the run goes on
    report.html results.csv results.md curves.png curves.svg run.log tensorboard/ARM/seedK/
    shared/seedK/TRAINING/      the cycle-0 model that all arms of this training start from, or full supervision
    arms/ARM/seedK/cycleN/      labelled.txt unlabelled.txt losses.jsonl training.json model.safetensors
                                detections.safetensors selected.csv
                                metrics.json (written last: with it, the cycle is finished)
Every folder with results has checksums of its files, SHA256SUMS, see `stored.py`. What the cells hold is read in
`records.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, RootModel

from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.training.identity import CHANGE_NO_RESULT

from ..config.schema import ExperimentConfig, load_config
from ..config.sections import FULL_SUPERVISION
from ..config.training_sections import kind_of, parameters_of
from ..config.trainings import optimiser_steps
from .own_files import PIXELS, cell_folders, remove_left_overs, remove_run, run_files
from .stored import (
    CHECKSUMS,
    as_json,
    inside,
    is_there,
    read_json,
    read_sums,
    require_fit,
    require_sealed,
    required,
    reseal,
)

# Keys that do not change results, so that a run may go on with other values.
# Of `initial`, the images themselves are compared.
FREE = {"executor", "jobs", "device", "devices", "published", "stopping", "initial"}


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

    @property
    def pixels(self) -> Path:
        """The file of decoded images that all processes of the run share; see `PixelCache`."""
        return self.root / PIXELS[0]

    @cached_property
    def trainings(self) -> dict[str, str]:
        """The training of each arm, by name, in the order of the experiment file."""
        return {arm.name: arm.training for arm in self.config.arms}

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
        return [cell for chain in self.chains() for cell in chain]

    def chains(self) -> list[list[Cell]]:
        """Return the cycles of each arm and seed, in the order of the experiment file."""
        return [
            [Cell(seed, cycle, training, arm) for cycle in range(len(self.config.budgets))]
            for arm, training in self.trainings.items()
            for seed in self.config.seeds
        ]

    def asks(self, cell: Cell) -> bool:
        """Whether the cell ends in a query: an arm's cell that another cycle follows."""
        return bool(cell.arm) and cell.cycle + 1 < len(self.config.budgets)

    def folder(self, cell: Cell) -> Path:
        """Return the folder of a cell.

        Raises
        ------
        DataError
            If it, or one that it lies in, is a link.
        """
        if cell.arm:
            folder = self.root / "arms" / cell.arm / f"seed{cell.seed}" / f"cycle{cell.cycle}"
        else:
            folder = self.root / "shared" / f"seed{cell.seed}" / cell.training
        return inside(self.root, folder)

    def begun(self) -> bool:
        """Whether the run's folder holds an experiment."""
        return is_there(self.root / "config.yaml")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock, by flock; the system releases it when the process ends, however it ends.

        It holds among the machines of an NFS that is mounted with locks, not ``nolock`` or ``local_lock``. Where a file
        system has no flock, `FileLock` may take the file's being there for it, which a killed process leaves behind.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        is_there(self.root / "lock")  # refuses a link
        try:
            with FileLock(self.root / "lock").acquire(timeout=0):
                yield
        except Timeout:
            raise ConfigError(f"{self.root}: another process is working on this run; let it end first") from None

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
        if fresh:
            remove_run(self.root)
        for path in run_files(self.root):
            is_there(path)  # refuses what is no file
        remove_left_overs(self.root)
        if self.begun():
            self._require_continued(data)
        elif any((folder / "metrics.json").exists() for folder in cell_folders(self.root)):
            raise ConfigError(f"{self.root}: has results but no config.yaml; use another name, or --fresh")
        reseal(self.root / "data.json", as_json(data))
        stored = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        reseal(self.root / "config.yaml", stored)

    def _require_continued(self, data: dict[str, dict]) -> None:
        old = open_run(self.root)
        if changed := changes(old.config.model_dump(mode="json"), self.config.model_dump(mode="json")) or _longer(
            old.config, self.config
        ):
            raise ConfigError(
                f"{self.config.source}: differs from the run in {self.root}: {'; '.join(changed)}"
                " (only arms, trainings, seeds, later budgets and full supervision may be added;"
                " use another name, or --fresh to start over)"
            )
        for part, then in begun_with(old).items():
            if (now := data.get(part, {"images": 0, "boxes": 0})) != then:
                place = "initial images of " + part.removeprefix("initial.") if "." in part else f"data.{part}"
                raise DataError(
                    f"{place}: not what the run in {self.root} began with ({then['images']} images with"
                    f" {then['boxes']} boxes then, {now['images']} with {now['boxes']} now);"
                    " use another name, or --fresh to start over"
                )


def open_run(folder: str | Path) -> Run:
    """Return the run stored in a folder.

    Raises
    ------
    ConfigError, DataError
        If the folder holds no run, or one whose experiment cannot be read.
    """
    folder = Path(folder)
    stored = folder / "config.yaml"
    if not is_there(stored):
        raise ConfigError(f"{folder}: not the folder of a run (no config.yaml); give one such as runs/digits")
    require_own(stored)
    run = Run(load_config(stored), folder.parent)
    run.root = folder  # it may have been renamed
    return run


class _Part(BaseModel):
    """An entry of a ``data.json``, see `datasets.describe`."""

    model_config = ConfigDict(strict=True)

    images: int
    boxes: int
    sha256: str


class _Parts(RootModel[dict[str, _Part]]):
    """A ``data.json``."""


def begun_with(run: Run) -> dict[str, dict]:
    """Return what the parts of the data set were when the run began, ``train``, ``test`` and more.

    Raises
    ------
    DataError
        If that is missing or damaged.
    """
    path = run.root / "data.json"
    require_own(path)
    parts = required(read_json(path), path)
    require_fit(_Parts, parts, path)
    for part in ("train", "test"):
        required(parts.get(part), f"{path}: {part}")
    return parts


def require_own(path: Path) -> None:
    """Raise a DataError unless a file beside the cells is as the run wrote it."""
    try:
        if path.name in (read_sums(path.parent) or {}):
            require_sealed(path.parent, [path.name])
    except DataError as error:
        mend = f"put a copy back, or remove {path.parent / CHECKSUMS} to take its files as they are"
        raise DataError(f"{error}; {mend}") from None


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
        elif key == "full_supervision_steps":
            changed += _differences(before, after, key) if old.get("full_supervision") else []
        elif key == "seeds":
            changed += [f"seeds: {seed} is gone" for seed in before if seed not in after]
        elif key == "trainings":
            for name in sorted({arm["training"] for arm in old["arms"]}):
                parts = [{"kind": kind_of(part, name), **parameters_of(part, name)} for part in (before, after)]
                changed += _differences(*parts, f"trainings.{name}")
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


def _longer(old: ExperimentConfig, new: ExperimentConfig) -> list[str]:
    """Return how the optimiser steps of all arms change, as they do with an arm whose training takes longer."""
    images = old.budgets[-1]
    then, now = (optimiser_steps(config, images) for config in (old, new))
    return [f"optimiser steps of every arm: {then} -> {now} with {images} images"] * (then != now)


def _differences(old: Any, new: Any, key: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [line for name in names for line in _differences(old.get(name), new.get(name), f"{key}.{name}")]
    return [] if old == new else [f"{key}: {old!r} -> {new!r}"]
