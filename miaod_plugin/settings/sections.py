"""What sections of settings are made of, and those that more than one kind of file has."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from ..errors import did_you_mean
from ..parameters import wrong_argument
from ..registry import DETECTORS, find

SET_ELSEWHERE = ("num_classes", "random_state")  # by the data and by the seeds


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
    check_values(options, function, "options.")


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
