"""What an experiment YAML may say, and the one line a person reads when it says something else."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from os.path import exists  # False for names that no file can have, where Path.exists raises
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.errors import ConfigError, did_you_mean, shown
from miaod_plugin.experiments.sections import (
    FULL_SUPERVISION,
    MIAOD,
    SUPERVISED,
    SUPERVISED_TWO_HEADS,
    Arm,
    Budget,
    Coco,
    Count,
    Detector,
    Digits,
    Evaluation,
    Name,
    Published,
    Section,
    UnknownKeyError,
    Voc,
    refuse_unknown,
)
from miaod_plugin.experiments.yaml_files import MOST_DEPTH, MOST_TEXT, parse_yaml, read_yaml
from miaod_plugin.options import miaod_options

# Parameters of the estimators that an experiment decides elsewhere, or that differ between trainings and cycles.
SET_BY_THE_RUNNER = {
    "detector", "detector_options", "classes", "device", "random_state", "checkpoint", "on_step", "verbose",
    "epochs",
}  # fmt: skip
COMMON_PARAMETERS = set(ObjectDetector().get_params()) - SET_BY_THE_RUNNER
MIAOD_PARAMETERS = set(MIAODDetector().get_params()) - set(ObjectDetector().get_params())


class ExperimentConfig(Section):
    """An experiment: arms x seeds x budgets on one data set with one detector."""

    name: Name
    data: Annotated[Digits | Voc | Coco, Field(discriminator="kind")]
    detector: Detector
    arms: Annotated[list[Arm], Field(min_length=1)]
    budgets: Annotated[list[Count], Field(min_length=1)]  # labelled in all, by cycle; the first is drawn at random
    budget: Budget = Budget()  # what the budgets count
    initial: str | None = None  # a split file, `{seed}` in its name, instead of drawing the first budget at random
    full_supervision: bool = False  # also train the supervised recipe on all images, once a seed, as the reference
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    training: dict[str, Any] = Field(default_factory=dict)  # parameters that ObjectDetector and MIAODDetector share
    miaod: dict[str, Any] = Field(default_factory=dict)  # parameters that only MIAODDetector has
    variants: dict[Name, dict[str, Any]] = Field(default_factory=dict)  # those that differ, under a training's own name
    evaluation: Evaluation = Evaluation()
    published: list[Published] = Field(default_factory=list)  # curves to draw beside the run's own
    on_error: Literal["raise", "skip"] = "raise"  # a bad annotation stops the run, or is skipped with a warning
    device: str = "auto"
    jobs: Count = 1  # worker processes
    threads: Count | None = None  # torch threads of each worker; the machine's cores shared out when left out
    _source: str = PrivateAttr("experiment")

    @property
    def source(self) -> str:
        """The file this was read from, for messages."""
        return self._source

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|(cuda|mps)(:\d+)?", device):
            raise ValueError(f"{device!r} is not a device; give 'auto', 'cpu', 'cuda', 'cuda:1', ...")
        return device

    @field_validator("training")
    @classmethod
    def _common(cls, parameters: dict) -> dict:
        if own := sorted(parameters.keys() & MIAOD_PARAMETERS):
            raise ValueError(f"{own[0]!r} is a parameter of MI-AOD alone; write it under 'miaod'")
        return refuse_unknown(parameters, COMMON_PARAMETERS, "key")

    @field_validator("miaod")
    @classmethod
    def _own(cls, parameters: dict) -> dict:
        if common := sorted(parameters.keys() & COMMON_PARAMETERS):
            raise ValueError(f"{common[0]!r} is common to all trainings; write it under 'training'")
        refuse_unknown(parameters, MIAOD_PARAMETERS, "key")
        if not isinstance(options := parameters.get("options") or {}, dict):
            raise ValueError(f"options: {options!r} is not a mapping of names to values")
        miaod_options(parameters.get("mode", "improved"), options)
        return parameters

    @field_validator("variants")
    @classmethod
    def _variants(cls, variants: dict[str, dict]) -> dict[str, dict]:
        for name, parameters in variants.items():
            if name in (SUPERVISED, MIAOD, SUPERVISED_TWO_HEADS, FULL_SUPERVISION):
                raise UnknownKeyError(name, "this training is built in; give the variant another name")
            try:
                cls._own(parameters)
            except UnknownKeyError as error:
                raise UnknownKeyError(f"{name}.{error.key}", str(error)) from None
            except ValueError as error:
                raise UnknownKeyError(name, str(error)) from None
        return variants

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
        return arms

    @model_validator(mode="after")
    def _known_trainings(self) -> "ExperimentConfig":
        known = {SUPERVISED, MIAOD, *self.variants}
        for number, arm in enumerate(self.arms):
            if arm.training not in known:
                message = f"unknown training {arm.training!r}{did_you_mean(arm.training, known)}"
                raise UnknownKeyError(f"arms.{number}.training", message)
        return self

    @model_validator(mode="after")
    def _initial_images(self) -> "ExperimentConfig":
        if self.initial is not None and self.budget.unit != "images":
            raise UnknownKeyError("initial", f"is for budgets that count images, not {self.budget.unit}")
        return self


def _refuse_repeated(values: list, what: str) -> list:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} {repeated[0]!r} appears twice; each must be different")
    return values


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
        raise ConfigError(f"{path}: {_first_line(error)}") from None
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

    def resolve(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        node = {key: resolve(value) for key, value in node.items()}
        for key in {"root", "annotations", "images"} & node.keys():
            value = node[key]
            if isinstance(value, str) and not exists(value) and exists(folder / value):
                node[key] = str(folder / value)
        return node

    resolved = {**raw, "data": resolve(raw["data"])} if "data" in raw else {**raw}
    initial = raw.get("initial")
    if isinstance(initial, str) and isinstance(raw.get("seeds"), list):
        first = initial.replace("{seed}", str(next(iter(raw["seeds"]), "")))
        if not exists(first) and exists(folder / first):
            resolved["initial"] = str(folder / initial)
    return resolved


def _first_line(error: ValidationError) -> str:
    """Return 'key.path: what is wrong; what is allowed' for the first problem, and how many more there are."""
    problem = error.errors(include_url=False)[0]
    location = [part for part in problem["loc"] if part not in ("digits", "voc", "coco")]
    cause = problem.get("ctx", {}).get("error")
    if problem["type"] == "extra_forbidden":
        message = f"unknown key{did_you_mean(str(location[-1]), _keys_at(problem['loc'][:-1]))}"
    elif isinstance(cause, UnknownKeyError):
        within = ["options"] if location and location[0] in ("arms", "detector") else []
        location, message = [*location, *within, cause.key], str(cause)
    elif cause is not None:
        message = str(cause)
    elif problem["type"] == "missing":
        message = "this key is missing"
    else:
        message = f"got {shown(problem['input'])}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    where = ".".join(str(part) for part in location)
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def _keys_at(location: Sequence) -> set[str]:
    """Return the keys allowed at a location that pydantic reports (list indices and union tags included)."""
    model: Any = ExperimentConfig
    for part in location:
        if isinstance(part, int):
            continue
        if isinstance(model, type) and issubclass(model, Section):
            model = model.model_fields[part].annotation
            while args := [arg for arg in get_args(model) if arg is not type(None)]:
                if len(args) > 1 and all(isinstance(arg, type) and issubclass(arg, Section) for arg in args):
                    break  # the union of data sets: the next part is its tag
                model = args[0]
        else:
            by_tag = {get_args(one.model_fields["kind"].annotation)[0]: one for one in get_args(model)}
            model = by_tag[part]
    return set(model.model_fields)
