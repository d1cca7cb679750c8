"""The section of a settings file that names a stopping rule."""

import inspect
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..errors import did_you_mean, shown
from ..registry import STOPPING_RULES, find, registered
from ..stopping import StoppingRule
from .sections import Section, WrongKeyError, check_options


class StopWhen(Section):
    """A stopping rule and its options."""

    rule: str
    """A registered stopping rule: gain, stable, uncertainty, budget."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The rule's own; `miaod config NAME` lists them."""

    def make(self) -> StoppingRule:
        """Return the rule."""
        return find(STOPPING_RULES, self.rule)(**self.options)

    @field_validator("rule")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in registered(STOPPING_RULES):
            raise ValueError(f"unknown stopping rule {shown(name)}{did_you_mean(name, registered(STOPPING_RULES))}")
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "StopWhen":
        rule = find(STOPPING_RULES, self.rule)
        check_options(rule, self.options, f"stopping rule {self.rule!r}")
        for name, parameter in inspect.signature(rule).parameters.items():
            if parameter.default is parameter.empty and name not in self.options:
                raise WrongKeyError(f"options.{name}", f"is missing; the rule {self.rule!r} needs it")
        return self
