"""What makes a training what it is: a half-trained fit goes on only where all of it is the same."""

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version

import numpy as np

from ..detectors.factory import detector_factory
from ..tensor_file import digest
from .base import Stage
from .batches import TrainingImages

# Parameters that say how to work, not what comes of it.
CHANGE_NO_RESULT = {"num_workers", "score_batch_size", "checkpoint_seconds", "cache_bytes", "devices"}
_LEFT_OUT = {
    *CHANGE_NO_RESULT,
    *("cache", "checkpoint", "on_step", "verbose"),
    "training",  # with its parameters, below
    "device",  # a training may go on where there is a GPU, or none
    *("classes", "detector", "detector_options", "random_state"),  # what they come to stands below
}


def training_identity(estimator, stages: list[Stage], images: TrainingImages, seed: int) -> dict[str, str]:
    """Return all that the result of a `fit` depends on, as text by name.

    The weights that the network begins with are part of it, so that those of a file count by their content.

    Parameters
    ----------
    estimator : ObjectDetector
        With its network and classes, before the first step.
    stages : list of Stage
    images : TrainingImages
    seed : int
    """
    factory, training = detector_factory(estimator.detector), estimator.training_
    known = inspect.signature(factory).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in known if parameter.default is not parameter.empty}
    options = {**defaults, **(estimator.detector_options or {})}
    parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name not in _LEFT_OUT}
    identity = {
        "version of miaod-plugin": version("miaod-plugin"),
        "estimator": type(estimator),
        "detector": estimator.detector,
        **{f"detector_options.{name}": value for name, value in options.items()},
        "training": type(training),
        **{f"training.{name}": value for name, value in training.get_params(deep=False).items()},
        **parameters,
        "classes": estimator.classes_,
        "random_state": seed,
        "steps": [asdict(stage) for stage in stages],
        "images or targets": images.digest().hex(),
        "initial weights": digest(estimator.network_.state_dict()),
    }
    return {name: json.dumps(value, sort_keys=True, default=_described) for name, value in identity.items()}


def _described(value: object) -> object:
    """Describe what JSON does not know by what it does."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, functools.partial):
        return [_described(value.func), value.args, value.keywords]
    if isinstance(value, Callable):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return str(value)
