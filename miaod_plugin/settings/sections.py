"""What sections of settings are made of, and those that more than one kind of file has."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from ..errors import ConfigError, did_you_mean, shown
from ..parameters import wrong_argument
from ..query import QueryStrategy
from ..registry import DETECTORS, STRATEGIES, find

SET_ELSEWHERE = ("num_classes", "random_state", "run")  # by the data, by the seeds, and by the runner


class WrongKeyError(ValueError):
    """A key or value inside a free-form section that is refused: reported as 'section.key', like pydantic's own."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def check_keys(given: dict, known: Iterable[str], what: str, where: str = "") -> None:
    """Raise a `WrongKeyError` that names the first key, after `where`, that is not known."""
    for key in given:
        if key not in known:
            raise WrongKeyError(f"{where}{key}", f"unknown {what}{did_you_mean(key, known)}")


def check_values(given: dict, function: Callable, where: str = "") -> None:
    """Raise a `WrongKeyError` that names the first value, after `where`, that `function` does not take."""
    if wrong := wrong_argument(function, given):
        raise WrongKeyError(f"{where}{wrong[0]}", wrong[1])


def check_options(function: Callable, options: dict[str, Any], what: str) -> None:
    """Raise a `WrongKeyError` that names the first of a section's `options` that `function` does not take."""
    if not takes_any(function):
        check_keys(options, options_of(function), f"option of {what}", "options.")
    check_values(with_strategies(function, options), function, "options.")


def with_strategies(function: Callable, options: dict[str, Any]) -> dict[str, Any]:
    """Return options with strategies in the place of their names, where `function` takes a strategy.

    A strategy is its name, or ``{name, options}``.
    """
    taken = [name for name, one in options_of(function).items() if QueryStrategy in get_args(one.annotation)]
    return options | {name: _strategy(options[name], name) for name in taken if options.get(name) is not None}


def _strategy(said: Any, key: str) -> QueryStrategy:
    said = {"name": said} if isinstance(said, str) else said
    if not isinstance(said, dict) or not isinstance(said.get("name"), str):
        raise WrongKeyError(f"options.{key}", f"{shown(said)} is no strategy; give its name, or {{name, options}}")
    check_keys(said, ("name", "options"), "key of a strategy", f"options.{key}.")
    inner, options = said["name"], said.get("options") or {}
    if not isinstance(options, dict):
        raise WrongKeyError(f"options.{key}.options", f"{shown(options)} is no mapping of names to values")
    try:
        kind = find(STRATEGIES, inner)
        check_options(kind, options, f"strategy {inner!r}")
    except ConfigError as error:
        raise WrongKeyError(f"options.{key}", str(error)) from None
    except WrongKeyError as error:
        raise WrongKeyError(f"options.{key}.{error.key}", str(error)) from None
    return kind(**with_strategies(kind, options))


def options_of(function: Callable) -> dict[str, inspect.Parameter]:
    """Return what settings may say of a detector's factory, a strategy or a training, by name."""
    parameters = inspect.signature(function).parameters.items()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: one for name, one in parameters if one.kind not in kinds and name not in SET_ELSEWHERE}


def takes_any(function: Callable) -> bool:
    """Whether a function takes keyword arguments that its signature does not name."""
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


class Section(BaseModel):
    """A part of a file of settings: no other keys, no other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Detector(Section):
    """A registered detector, or one of torchvision's, and its options."""

    name: str
    """A registered detector, or torchvision:NAME."""
    options: dict[str, Any] = {}
    """The detector's own; `miaod config NAME` lists them."""

    @field_validator("name")
    @classmethod
    def _registered(cls, name: str) -> str:
        find(DETECTORS, name)
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "Detector":
        check_options(find(DETECTORS, self.name), self.options, f"detector {self.name!r}")
        return self
