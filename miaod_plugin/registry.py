"""What is known by name, found through entry points: the built-in parts register as a third party's would."""

import sys
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points

from .errors import ConfigError, did_you_mean

STRATEGIES = "miaod_plugin.strategies"
DETECTORS = "miaod_plugin.detectors"
TRAININGS = "miaod_plugin.trainings"
STOPPING_RULES = "miaod_plugin.stopping_rules"
DATA_KINDS = "miaod_plugin.data_kinds"  # of experiments
EXECUTORS = "miaod_plugin.executors"  # of experiments
ANNOTATION_FORMATS = "miaod_plugin.annotation_formats"  # of labelling tools
# Of detectors and strategies that somebody else names: ``FAMILY:NAME``.
FAMILIES = {DETECTORS: "miaod_plugin.detector_families", STRATEGIES: "miaod_plugin.strategy_families"}

_KINDS = {
    STRATEGIES: "strategy",
    DETECTORS: "detector",
    TRAININGS: "training",
    STOPPING_RULES: "stopping rule",
    DATA_KINDS: "data kind",
    EXECUTORS: "executor",
    ANNOTATION_FORMATS: "annotation format",
}


def registered(group: str) -> list[str]:
    """Return the sorted names registered in an entry-point group, such as `STRATEGIES` or `DETECTORS`."""
    return sorted(_entries(group).names)


def find(group: str, name: str):
    """Load the object registered as `name` in `group`; what is called ``FAMILY:NAME`` is made by its family's function.

    Raises
    ------
    ConfigError
        If nothing of that name is registered; the message offers the closest name.
    """
    for entry in _entries(group).select(name=name):
        return entry.load()
    if is_of_family(group, name):
        family, _, member = name.partition(":")
        for entry in _entries(FAMILIES[group]).select(name=family):
            return entry.load()(member)
    raise ConfigError(f"unknown {_KINDS[group]} {name!r}{did_you_mean(name, registered(group))}")


def _entries(group: str) -> EntryPoints:
    return _entries_on(tuple(sys.path), group)


@lru_cache(maxsize=64)
def _entries_on(path: tuple[str, ...], group: str) -> EntryPoints:
    """Return a group's entry points; looking for them reads a file of every package that is installed."""
    return entry_points(group=group)


def is_of_family(group: str, name: str) -> bool:
    """Whether a name is ``FAMILY:NAME`` with a family that is registered for the group."""
    family, colon, _ = name.partition(":")
    return bool(colon) and group in FAMILIES and family in registered(FAMILIES[group])


def name_of(group: str, thing: object) -> str | None:
    """Return the name under which an object is registered in a group, ``None`` if it is not."""
    return next((name for name in registered(group) if find(group, name) is thing), None)
