"""From what an estimator is told of its detector to the detector."""

import inspect
from collections.abc import Callable, Mapping

from torch import nn

from ..errors import ConfigError, did_you_mean, shown
from ..registry import DETECTORS, find
from .base import Detector


def detector_factory(detector: str | Callable) -> Callable:
    """Return the callable ``(num_classes, **options) -> Detector`` that a name, or itself, stands for."""
    if isinstance(detector, nn.Module):
        raise ConfigError(
            f"detector: a {type(detector).__name__} is a network; give a function (num_classes, **options)"
            " that builds a Detector, or 'torchvision:NAME' for a model of torchvision's"
        )
    return find(DETECTORS, detector) if isinstance(detector, str) else detector


def without_weights(name: str | Callable, options: Mapping | None) -> Mapping | None:
    """Return a detector's options with random weights, as others will take their place: nothing is downloaded."""
    if "weights" in inspect.signature(detector_factory(name)).parameters:
        return {**(options or {}), "weights": None}
    return options


def build_detector(name: str | Callable, options: Mapping | None, n_classes: int) -> Detector:
    """Build a detector, or raise a ConfigError that names an option which it does not have."""
    factory, options = detector_factory(name), options or {}
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            mend = did_you_mean(option, set(known) - {"num_classes"})
            raise ConfigError(f"detector_options: {shown(name)} has no {shown(option)}{mend}")
    detector = factory(n_classes, **options)
    if not isinstance(detector, Detector):
        raise ConfigError(
            f"detector: {shown(name)} builds a {type(detector).__name__}, which is no Detector;"
            " put a model with torchvision's interface into a TorchvisionDetector"
        )
    return detector
