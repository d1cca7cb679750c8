"""The section `trainings` of an experiment file: which trainings there are, and with what parameters."""

from collections.abc import Mapping
from typing import Any

from miaod_plugin import Training
from miaod_plugin.errors import did_you_mean, shown
from miaod_plugin.registry import TRAININGS, find, registered
from miaod_plugin.settings.estimators import check_own, check_whole
from miaod_plugin.settings.sections import WrongKeyError

from .sections import FULL_SUPERVISION

Sections = Mapping[str, Mapping[str, Any]]  # the section, by name


def kind_of(sections: Sections, name: str) -> str:
    """Return the registered training that a name of the experiment stands for."""
    return sections.get(name, {}).get("kind", name)


def parameters_of(sections: Sections, name: str) -> dict[str, Any]:
    """Return the parameters of a training: its own, on top of those of its kind; of mappings, the keys it names."""
    kind = kind_of(sections, name)
    of_kind, own = (sections.get(one, {}) for one in (kind, name))
    both = {**of_kind, **own}
    for key in of_kind.keys() & own.keys():
        if isinstance(of_kind[key], Mapping) and isinstance(own[key], Mapping):
            both[key] = {**of_kind[key], **own[key]}
    both.pop("kind", None)
    return both


def training_named(sections: Sections, name: str) -> Training:
    """Return the training that an experiment calls so."""
    return find(TRAININGS, kind_of(sections, name))(**parameters_of(sections, name))


def check_training(sections: Sections, name: str) -> None:
    """Raise a `WrongKeyError` that names what is wrong with one training of the section."""
    own, kind = sections[name], kind_of(sections, name)
    _check_kind(name, kind, "kind" in own)
    own = {key: value for key, value in own.items() if key != "kind"}
    check_own(find(TRAININGS, kind), own, name, "training")
    check_whole(training_named(sections, name), name)


def _check_kind(name: str, kind: object, told: bool) -> None:
    there = registered(TRAININGS)
    if name.lower() == FULL_SUPERVISION or (name not in there and name.lower() in there):
        raise WrongKeyError(name, "this name is taken; give the training another")
    if name in there and kind != name:
        raise WrongKeyError(f"{name}.kind", f"{name!r} is itself a training; give another name to one of another kind")
    if kind not in there:
        if told:
            raise WrongKeyError(f"{name}.kind", f"unknown training {shown(kind)}{did_you_mean(str(kind), there)}")
        raise WrongKeyError(name, f"no training of this name is registered{did_you_mean(name, there)}, or a 'kind'")
