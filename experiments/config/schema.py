"""What an experiment YAML may say, and the one line a person reads when it says something else."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from os.path import exists  # False for names that no file can have, where Path.exists raises
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from miaod_plugin.errors import ConfigError, did_you_mean, shown
from miaod_plugin.parameters import Count, Seed, Whole
from miaod_plugin.registry import DATA_KINDS, TRAININGS, find, registered
from miaod_plugin.settings.estimators import check_common
from miaod_plugin.settings.refusals import first_line
from miaod_plugin.settings.sections import Detector, Section, WrongKeyError
from miaod_plugin.settings.stopping import StopWhen
from miaod_plugin.settings.yaml_files import MOST_DEPTH, MOST_TEXT, parse_yaml, read_yaml

from .data_sections import DataKind, Place
from .sections import Arm, Budget, Evaluation, Executor, Name, Published
from .training_sections import check_training, kind_of

MOST_CELLS = 100_000
KINDS: dict[str, type[DataKind]] = {name: find(DATA_KINDS, name) for name in registered(DATA_KINDS)}
if not KINDS:
    raise ConfigError(f"no {DATA_KINDS} are registered: miaod-plugin was installed from older code; install it again")


def _usual_rules() -> list[StopWhen]:
    return [StopWhen(rule=name) for name in ("gain", "stable")]


class ExperimentConfig(Section):
    """An experiment: arms x seeds x budgets on one data set with one detector."""

    name: Name
    """Of the run's folder under --out."""
    data: Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")]  # noqa: UP007
    """The data set."""
    detector: Detector
    """What is trained."""
    arms: Annotated[list[Arm], Field(min_length=1)]
    """What is compared: each a way to train and a way to pick the next images."""
    budgets: Annotated[list[Count], Field(min_length=1)]
    """What is labelled in all, by cycle, rising; the first is drawn at random."""
    budget: Budget = Budget()
    """What the budgets count."""
    initial: Place | None = None
    """A file of image names, with {seed} in its name, instead of drawing the first budget; see `miaod splits`."""
    replay: Place | None = None
    """The folder of a run whose arms of the same names have made all selections; here they are only trained on."""
    stopping: list[StopWhen] = Field(default_factory=_usual_rules)
    """Stopping rules whose stops the report shows on the curves; all arms go on to the last budget."""
    full_supervision: bool = False
    """Also train the supervised recipe on all images, once a seed, as the reference."""
    full_supervision_steps: Count | None = None
    """Optimiser steps of full supervision, since all images want more; those of the schedule when left out."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    """Every arm runs once with each."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Parameters of every training."""
    trainings: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """Parameters of trainings by name; with a `kind`, more trainings for arms, which differ in them."""
    evaluation: Evaluation = Evaluation()
    """How detections on the test images are scored."""
    published: list[Published] = Field(default_factory=list)
    """Curves to draw beside the run's own."""
    on_error: Literal["raise", "skip"] = "raise"
    """What a bad annotation does: stop the run, or be left out with a warning."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    devices: Annotated[int, Whole(1, 4096)] = 1
    """Processes that share each training and each pass over images, on a GPU each or on a CPU, to what one comes to."""
    executor: Executor = Field(default_factory=Executor)
    """Where the cells run."""
    jobs: Annotated[int, Whole(1, 1024)] = 1
    """Worker processes, and the least that an executor is given to do at once."""
    threads: Annotated[int, Whole(1, 1024)] | None = None
    """Torch threads of each worker; the machine's cores shared out when left out."""
    _source: str = PrivateAttr("experiment")

    @property
    def source(self) -> str:
        """The file this was read from, for messages."""
        return self._source

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
            raise ValueError(f"{shown(device)} is not a device; give 'auto', 'cpu', 'cuda', 'cuda:1', ...")
        return device

    @field_validator("training")
    @classmethod
    def _common(cls, parameters: dict) -> dict:
        check_common(parameters, "trainings.{}")
        return parameters

    @field_validator("trainings")
    @classmethod
    def _trainings(cls, trainings: dict[str, dict]) -> dict[str, dict]:
        for name in sorted(trainings, key=lambda name: kind_of(trainings, name) != name):  # what others build on first
            check_training(trainings, name)
        _refuse_alike(list(trainings), "training")
        return trainings

    @field_validator("budgets")
    @classmethod
    def _increasing(cls, budgets: list[int]) -> list[int]:
        for before, after in pairwise(budgets):
            if after <= before:
                raise ValueError(f"{after} follows {before}; budgets must increase")
        return budgets

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: list[int]) -> list[int]:
        return _refuse_repeated(seeds, "seed")

    @field_validator("arms")
    @classmethod
    def _distinct_arms(cls, arms: list[Arm]) -> list[Arm]:
        _refuse_repeated([arm.name for arm in arms], "arm name")
        _refuse_alike([arm.name for arm in arms], "arm name")
        return arms

    @model_validator(mode="after")
    def _known_trainings(self) -> "ExperimentConfig":
        known = {*registered(TRAININGS), *self.trainings}
        for number, arm in enumerate(self.arms):
            if arm.training not in known:
                message = f"unknown training {shown(arm.training)}{did_you_mean(arm.training, known)}"
                raise WrongKeyError(f"arms.{number}.training", message)
            strategy = arm.new_strategy()
            if self.replay is None and not strategy.reads(find(TRAININGS, kind_of(self.trainings, arm.training))):
                fitting = " or ".join(one for one in registered(TRAININGS) if strategy.reads(find(TRAININGS, one)))
                message = f"{arm.training!r} does not train what strategy {arm.strategy!r} reads; give {fitting}"
                raise WrongKeyError(f"arms.{number}.training", message)
        return self

    @model_validator(mode="after")
    def _initial_images(self) -> "ExperimentConfig":
        if self.initial is not None and self.budget.unit != "images":
            raise WrongKeyError("initial", f"is for budgets that count images, not {self.budget.unit}")
        return self

    @model_validator(mode="after")
    def _steps_of_a_reference(self) -> "ExperimentConfig":
        if self.full_supervision_steps is not None and not self.full_supervision:
            raise WrongKeyError("full_supervision_steps", "is for experiments with full_supervision: true")
        return self

    @model_validator(mode="after")
    def _devices_of_one_cell(self) -> "ExperimentConfig":
        if self.devices > 1 and (self.jobs > 1 or ":" in self.device):
            other = f"jobs: {self.jobs}" if self.jobs > 1 else f"device: {self.device}"
            raise WrongKeyError("devices", f"{self.devices} work on one cell, and not with '{other}'; leave one out")
        return self

    @model_validator(mode="after")
    def _few_cells(self) -> "ExperimentConfig":
        if (cells := len(self.arms) * len(self.seeds) * len(self.budgets)) > MOST_CELLS:
            raise ValueError(f"arms x seeds x budgets are {cells:,} cells; {MOST_CELLS:,} are the most")
        return self


def _refuse_repeated(values: list, what: str) -> list:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} {shown(repeated[0])} appears twice; each must be different")
    return values


def _refuse_alike(names: list[str], what: str) -> None:
    """Refuse names of folders that are the same where upper and lower case are."""
    by_folder: dict[str, str] = {}
    for name in names:
        if (other := by_folder.setdefault(name.lower(), name)) != name:
            raise ValueError(f"{what}s {shown(other)} and {shown(name)} differ in case only, as folders may not")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment file.

    Parameters
    ----------
    path : path of a YAML file
        Paths inside it are looked up from the current folder, and from the YAML's folder when nothing is there.
    overrides : sequence of str
        ``key=value`` with a dotted key, ``training.batch_size=4`` or ``arms.0.strategy=random``; the value is YAML.

    Raises
    ------
    ConfigError
        One line that names the file, the key, the value and what is allowed.
    """
    path = Path(path)
    raw = read_yaml(path)
    for override in overrides:
        _override(raw, override)
    try:
        config = ExperimentConfig.model_validate(_resolve_paths(raw, path.parent))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_line(error, ExperimentConfig)}") from None
    config._source = str(path)
    return config


def _override(raw: dict, override: str) -> None:
    """Set one dotted key of `raw` in place."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"command line: {shown(override)} is not of the form key=value, such as training.batch_size=4"
        )
    *parents, last = key.split(".")
    if len(parents) >= MOST_DEPTH or len(key) > MOST_TEXT or not key.isprintable():
        raise ConfigError(f"command line: {shown(key)}: there is no such place in the experiment")
    value = parse_yaml(text, f"command line: {shown(override)}")
    place: Any = raw
    try:
        for parent in parents:
            place = place[_row(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        place[_row(last) if isinstance(place, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise ConfigError(f"command line: {shown(override)}: there is no such place in the experiment") from None


def _row(part: str) -> int:
    """Return the place in a list that a part of a dotted key names, counted from 0."""
    if not re.fullmatch(r"[0-9]{1,9}", part):
        raise ValueError(part)
    return int(part)


def _resolve_paths(raw: dict, folder: Path) -> dict:
    """Return `raw` with data paths that exist only beside the YAML prefixed with its folder."""

    kind = raw["data"].get("kind") if isinstance(raw.get("data"), dict) else None
    paths = KINDS[kind].paths if isinstance(kind, str) and kind in KINDS else frozenset()

    def resolve(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        node = {key: resolve(value) for key, value in node.items()}
        for key in paths & node.keys():
            value = node[key]
            if isinstance(value, str) and value and not exists(value) and exists(folder / value):
                node[key] = str(folder / value)
        return node

    resolved = {**raw, "data": resolve(raw["data"])} if "data" in raw else {**raw}
    initial = raw.get("initial")
    if isinstance(initial, str) and isinstance(raw.get("seeds"), list):
        first = initial.replace("{seed}", str(next(iter(raw["seeds"]), "")))
        if not exists(first) and exists(folder / first):
            resolved["initial"] = str(folder / initial)
    replay = raw.get("replay")
    if isinstance(replay, str) and replay and not exists(replay) and exists(folder / replay):
        resolved["replay"] = str(folder / replay)
    return resolved
