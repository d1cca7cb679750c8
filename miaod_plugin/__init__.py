"""Active learning for object detection with a scikit-learn / modAL interface."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .estimator import ObjectDetector
    from .learner import DetectionLearner
    from .miaod_estimator import MIAODDetector

__all__ = ["DetectionLearner", "MIAODDetector", "ObjectDetector"]

# Imported at first use: torch takes seconds to load, which `miaod --help` need not wait for.
_HOME = {"DetectionLearner": "learner", "MIAODDetector": "miaod_estimator", "ObjectDetector": "estimator"}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
