"""The settings of a project: one YAML file that people edit."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ..data.validation import check_class_names
from ..errors import ConfigError
from ..estimator import ObjectDetector
from ..files import read_text
from ..parameters import FilePath, Probability, Seed
from ..query import QueryStrategy
from ..registry import ANNOTATION_FORMATS, STRATEGIES, TRAININGS, find, registered
from ..settings.annotation_time import AnnotationTime
from ..settings.estimators import check_common, check_own, check_whole
from ..settings.refusals import first_line
from ..settings.sections import Detector, Section, WrongKeyError, check_options, with_strategies
from ..settings.stopping import StopWhen
from ..settings.yaml_files import MOST_BYTES, parse_yaml
from ..training.base import Training

# Commented for who edits it. Training on annotated images alone and selection by MI-AOD: on digit scenes that labels
# best, on photographs no worse than any other, where training on unlabelled images costs points in few steps
# (experiments/results). Steps and rates are those of the study on blood cells, with more steps, as these have time.
_TEMPLATE = """\
# The settings of this project, which every `miaod loop` command reads. `miaod config NAME` shows the options of a
# detector, training or strategy.
photos: {photos}   # folder of the photographs, from this file's on; more may come at any time
classes: {classes}   # annotations name them, so more may be added
orientation: {orientation}   # what the tool's boxes count on: pixels turned upright as EXIF says, or as they are stored
tool:
  name: {tool}   # {tools}
  options: {{}}

detector:
  name: {detector}
  options: {{}}
training:
  name: label_set   # supervised: one classifier, for entropy and core-set; miaod, mean_teacher: unlabelled images, too
  options: {{}}
estimator:   # of every training; `miaod config` lists more under `training`
  max_steps: 2000   # optimiser steps of each training
  batch_size: 4
  optimizer: adamw
  learning_rate: 0.0005
  weight_decay: 0.0001
  warmup_steps: 100
  max_grad_norm: 1.0
  drop_at: 0.8
strategy:
  name: miaod   # which images to ask for next; entropy and coreset look at any training's detector
  options: {{}}

annotation_time: {{per_image: 7.8, per_box: 25.5}}   # in seconds: `status` counts hours by it
stopping:   # rules by which `status` says when to stop; options as `miaod config NAME` shows them
  - rule: gain
  - rule: stable
  # - {{rule: budget, options: {{most: 20}}}}   # hours

suggest_from: 0.3   # least score of a box that the tool shows to start from
seed: {seed}
device: auto   # a GPU if there is one; cpu, cuda, cuda:1, ...
"""


_NO_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}  # in YAML


class Choice(Section):
    """Something registered, and its options."""

    group: ClassVar[str]
    name: str
    """Under which it is registered."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its own; `miaod config NAME` lists those of trainings and strategies."""

    @model_validator(mode="after")
    def _known(self) -> "Choice":
        try:
            kind = find(self.group, self.name)
        except ConfigError as error:
            raise WrongKeyError("name", str(error)) from None
        self._check(kind)
        return self

    def _check(self, kind: type) -> None:
        check_options(kind, self.options, repr(self.name))

    def make(self) -> Any:
        """Return what is chosen."""
        kind = find(self.group, self.name)
        return kind(**with_strategies(kind, self.options))


class Tool(Choice):
    """The annotation format that `query` writes and `import` reads."""

    group = ANNOTATION_FORMATS


class TrainingChoice(Choice):
    """How the detector is trained."""

    group = TRAININGS

    def _check(self, kind: type[Training]) -> None:
        check_own(kind, self.options, "options", "estimator")
        check_whole(self.make(), "options")


class Strategy(Choice):
    """How images are picked."""

    group = STRATEGIES


class Settings(Section):
    """What the file says."""

    photos: Annotated[str, FilePath()]
    """Folder of the photographs, from the project's on."""
    classes: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    """In label order; annotations name them, so that more may be added."""
    orientation: Literal["upright", "stored"] = "upright"
    """What the tool's boxes count on: pixels as EXIF turns them, or as they are stored."""
    tool: Tool
    """The labelling tool."""
    detector: Detector
    """What is trained."""
    training: TrainingChoice
    """How it is trained."""
    estimator: dict[str, Any] = Field(default_factory=dict)
    """Parameters of `ObjectDetector` that every training has."""
    strategy: Strategy
    """How images are picked."""
    annotation_time: AnnotationTime = AnnotationTime()
    """How long annotating takes."""
    stopping: list[StopWhen] = Field(default_factory=list)
    """Rules by which `status` says when to stop; costs are counted in hours."""
    suggest_from: Probability = 0.3
    """Least score of a box to start annotating from."""
    seed: Seed = 0
    """Of trainings, and of strategies that draw at random."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""

    @field_validator("classes")
    @classmethod
    def _names(cls, classes: list[str]) -> list[str]:
        return list(check_class_names(classes, "the list"))

    @field_validator("estimator")
    @classmethod
    def _common(cls, parameters: dict) -> dict:
        check_common(parameters, "training.options")
        return parameters

    @model_validator(mode="after")
    def _strategy_reads(self) -> "Settings":
        strategy = self.make_strategy()
        if strategy.n_detectors > 1:
            raise WrongKeyError("strategy.name", f"{self.strategy.name!r} compares detectors; a project trains one")
        try:
            strategy.check_training(self.training.make())
        except ConfigError as error:
            raise WrongKeyError("strategy.name", str(error)) from None
        return self

    def make_strategy(self) -> QueryStrategy:
        """Return the strategy, seeded where it draws at random."""
        strategy = self.strategy.make()
        return strategy.set_params(random_state=self.seed) if "random_state" in strategy.get_params() else strategy

    def make_estimator(self, **more) -> ObjectDetector:
        """Return the estimator, not fitted."""
        return ObjectDetector(
            self.detector.name,
            self.classes,
            detector_options=self.detector.options,
            training=self.training.make(),
            random_state=self.seed,
            device=self.device,
            **self.estimator,
            **more,
        )


def read_settings(path: Path) -> Settings:
    """Read and check a project's settings, or raise a ConfigError that names the file and the key."""
    return parse_settings(read_text(path, MOST_BYTES), path)


def parse_settings(text: str, path: Path) -> Settings:
    """Return the settings that a file of this text says; see `read_settings`."""
    try:
        return Settings.model_validate(parse_yaml(text, str(path)))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_line(error, Settings)}") from None


def settings_text(photos: str, classes: list[str], tool: str, orientation: str, detector: str, seed: int) -> str:
    """Return the file of a new project."""
    given = {"photos": photos, "tool": tool, "orientation": orientation, "detector": detector, "classes": classes}
    quoted = {name: _plain(value) for name, value in given.items()}
    return _TEMPLATE.format(**quoted, seed=seed, tools=", ".join(registered(ANNOTATION_FORMATS)))


def _plain(value: str | list[str]) -> str:
    """Return a value as YAML writes it; quoted as JSON, which is YAML, where it is more than a plain word."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", value, re.ASCII) and value.lower() not in _NO_TEXT
    return value if plain else json.dumps(value, ensure_ascii=False)
