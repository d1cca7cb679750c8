"""What an experiment YAML may say, and the one line a person reads when it says something else."""

import inspect
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.errors import ConfigError, did_you_mean
from miaod_plugin.registry import DETECTORS, STRATEGIES, find, registered

# Parameters of the estimators that an experiment decides elsewhere, or that differ between trainings and cycles.
SET_BY_THE_RUNNER = {
    "detector", "detector_options", "classes", "device", "random_state", "checkpoint", "on_step", "epochs",
}  # fmt: skip
COMMON_PARAMETERS = set(ObjectDetector().get_params()) - SET_BY_THE_RUNNER
MIAOD_PARAMETERS = set(MIAODDetector().get_params()) - set(ObjectDetector().get_params())

# Names become folder names.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+_.-]*$")]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Digits(Section):
    """Digit scenes drawn from a seed; `train` and `test` are numbers of images."""

    kind: Literal["digits"]
    train: Count
    test: Count
    n_classes: Annotated[int, Field(ge=1, le=10)] = 5
    image_size: Annotated[int, Field(ge=32)] = 64
    object_size: tuple[Count, Count] = (16, 40)
    max_objects: Count = 6
    imbalance: Annotated[float, Field(ge=1.0)] = 1.0
    random_state: int = 0

    @field_validator("object_size", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value  # YAML has no tuples


class VocPart(Section):
    split: str
    years: list[int] | None = None


class Voc(Section):
    """PASCAL VOC layout: `root` holds VOC2007, VOC2012, ..., or is itself one such folder when `years` is left out."""

    kind: Literal["voc"]
    root: str
    train: VocPart
    test: VocPart
    classes: list[str] | None = None
    one_based: bool = True


class CocoPart(Section):
    annotations: str
    images: str


class Coco(Section):
    """COCO JSON: an annotation file and an image folder for each part."""

    kind: Literal["coco"]
    train: CocoPart
    test: CocoPart
    classes: list[str] | None = None


class Detector(Section):
    name: str
    options: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in registered(DETECTORS):
            raise ValueError(f"unknown detector {name!r}{did_you_mean(name, registered(DETECTORS))}")
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "Detector":
        parameters = inspect.signature(find(DETECTORS, self.name)).parameters.values()
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            known = {parameter.name for parameter in parameters} - {"num_classes"}
            _refuse_unknown(self.options, known, f"option of detector {self.name!r}")
        return self


class Arm(Section):
    """One line of the comparison: how the detector is trained, and how the next images are picked."""

    training: Literal["supervised", "miaod"]
    strategy: str
    options: dict[str, Any] = {}
    name: Name = ""  # "training+strategy" unless given

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, arm: Any) -> Any:
        if isinstance(arm, dict) and "name" not in arm and {"training", "strategy"} <= arm.keys():
            arm = {**arm, "name": f"{arm['training']}+{arm['strategy']}"}
        return arm

    @field_validator("strategy")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in registered(STRATEGIES):
            raise ValueError(f"unknown strategy {name!r}{did_you_mean(name, registered(STRATEGIES))}")
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "Arm":
        known = set(find(STRATEGIES, self.strategy)().get_params()) - {"random_state"}
        _refuse_unknown(self.options, known, f"option of strategy {self.strategy!r}")
        return self


class Evaluation(Section):
    metric: Literal["voc_11point", "voc_area", "coco"] = "voc_11point"


class ExperimentConfig(Section):
    """An experiment: arms x seeds x budgets on one data set with one detector."""

    name: Name
    data: Annotated[Digits | Voc | Coco, Field(discriminator="kind")]
    detector: Detector
    arms: Annotated[list[Arm], Field(min_length=1)]
    budgets: Annotated[list[Count], Field(min_length=1)]  # numbers of labelled images; the first is the initial set
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    training: dict[str, Any] = {}  # parameters that ObjectDetector and MIAODDetector share
    miaod: dict[str, Any] = {}  # parameters that only MIAODDetector has
    evaluation: Evaluation = Evaluation()
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
        return _refuse_unknown(parameters, COMMON_PARAMETERS, "key")

    @field_validator("miaod")
    @classmethod
    def _own(cls, parameters: dict) -> dict:
        if common := sorted(parameters.keys() & COMMON_PARAMETERS):
            raise ValueError(f"{common[0]!r} is common to all trainings; write it under 'training'")
        return _refuse_unknown(parameters, MIAOD_PARAMETERS, "key")

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


class _UnknownKeyError(ValueError):
    """A key in a free-form section that nothing takes: reported as 'section.key', like pydantic's own."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def _refuse_unknown(given: dict, known: set[str], what: str) -> dict:
    for key in given:
        if key not in known:
            raise _UnknownKeyError(str(key), f"unknown {what}{did_you_mean(str(key), known)}")
    return given


def _refuse_repeated(values: list, what: str) -> list:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} {repeated[0]!r} appears twice; each must be different")
    return values


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `1e-3` as the number it looks like (YAML 1.1 wants `1.0e-3`) and refuses repeated keys."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} appears twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


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
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: an experiment is a mapping of keys to values, got {type(raw).__name__}")
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
        raise ConfigError(f"command line: {override!r} is not of the form key=value, such as training.batch_size=4")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(f"command line: {override!r}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    place: Any = raw
    try:
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise ConfigError(f"command line: {override!r}: there is no such place in the experiment") from None


def _resolve_paths(raw: dict, folder: Path) -> dict:
    """Return `raw` with data paths that exist only beside the YAML prefixed with its folder."""

    def resolve(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        node = {key: resolve(value) for key, value in node.items()}
        for key in {"root", "annotations", "images"} & node.keys():
            value = node[key]
            if isinstance(value, str) and not Path(value).exists() and (folder / value).exists():
                node[key] = str(folder / value)
        return node

    return {**raw, "data": resolve(raw["data"])} if "data" in raw else raw


def _first_line(error: ValidationError) -> str:
    """Return 'key.path: what is wrong; what is allowed' for the first problem, and how many more there are."""
    problem = error.errors()[0]
    location = [part for part in problem["loc"] if part not in ("digits", "voc", "coco")]
    cause = problem.get("ctx", {}).get("error")
    if problem["type"] == "extra_forbidden":
        message = f"unknown key{did_you_mean(str(location[-1]), _keys_at(problem['loc'][:-1]))}"
    elif isinstance(cause, _UnknownKeyError):
        within = ["options"] if location[0] in ("arms", "detector") else []
        location, message = [*location, *within, cause.key], str(cause)
    elif cause is not None:
        message = str(cause)
    elif problem["type"] == "missing":
        message = "this key is missing"
    else:
        message = f"got {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
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
