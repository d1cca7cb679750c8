"""Active learning for object detection with a scikit-learn / modAL interface."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .committee import Committee
    from .estimator import ObjectDetector
    from .learner import DetectionLearner
    from .miaod_estimator import MIAODDetector
    from .mil.training import MIAOD, LabelSet
    from .training.base import Training
    from .training.mean_teacher import MeanTeacher
    from .training.supervised import Supervised

__all__ = [
    "MIAOD",
    "Committee",
    "DetectionLearner",
    "LabelSet",
    "MIAODDetector",
    "MeanTeacher",
    "ObjectDetector",
    "Supervised",
    "Training",
]

# Imported at first use: torch takes seconds to load, which `miaod --help` need not wait for.
_HOME = {
    "MIAOD": "mil.training",
    "Committee": "committee",
    "DetectionLearner": "learner",
    "LabelSet": "mil.training",
    "MIAODDetector": "miaod_estimator",
    "MeanTeacher": "training.mean_teacher",
    "ObjectDetector": "estimator",
    "Supervised": "training.supervised",
    "Training": "training.base",
}


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
