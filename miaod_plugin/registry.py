"""Strategies and detectors by name, found through entry points: the built-in ones register as a third party's would."""

from importlib.metadata import entry_points

from miaod_plugin.errors import ConfigError, did_you_mean

STRATEGIES = "miaod_plugin.strategies"
DETECTORS = "miaod_plugin.detectors"


def registered(group: str) -> list[str]:
    """Return the sorted names registered in an entry-point group (`STRATEGIES` or `DETECTORS`)."""
    return sorted({entry.name for entry in entry_points(group=group)})


def find(group: str, name: str):
    """Load the object registered as `name` in `group`; the detector ``torchvision:NAME`` is any model of torchvision's.

    Raises
    ------
    ConfigError
        If nothing of that name is registered; the message offers the closest name.
    """
    for entry in entry_points(group=group, name=name):
        return entry.load()
    if group == DETECTORS and name.startswith("torchvision:"):
        from miaod_plugin.detectors.torchvision_model import torchvision_factory

        return torchvision_factory(name.removeprefix("torchvision:"))
    kind = {STRATEGIES: "strategy", DETECTORS: "detector"}[group]
    raise ConfigError(f"unknown {kind} {name!r}{did_you_mean(name, registered(group))}")
