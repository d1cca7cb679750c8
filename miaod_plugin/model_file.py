"""Fitted detectors on disk: one safetensors file, weights as tensors and configuration as JSON in its header."""

import inspect
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.files import atomic_path
from miaod_plugin.randomness import unchanged_random_state

# What belongs to one process or one training, not to the model.
_NOT_SAVED = ("on_step", "checkpoint", "device", "random_state", "verbose")


def save(estimator, path) -> None:
    """Write a fitted estimator's weights, parameters and classes, atomically."""
    parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name not in _NOT_SAVED}
    if callable(parameters["detector"]):
        parameters["detector"] = None  # `load` is given the factory again
    seed = estimator.random_state
    config = {
        "estimator": type(estimator).__name__,
        "parameters": parameters | {"random_state": seed if isinstance(seed, int) else None},
        "classes_": estimator.classes_.tolist(),
        "losses_": estimator.losses_,
        "n_steps_": estimator.n_steps_,
        "n_unlabeled_": estimator.n_unlabeled_,
    }
    tensors = {name: tensor.contiguous() for name, tensor in estimator.network_.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"miaod_plugin": json.dumps(config, default=_plain)})


def load(cls, path, detector=None):
    """Read an estimator of class `cls` or a subclass that `save` wrote; see `ObjectDetector.load`."""
    import miaod_plugin.miaod_estimator  # noqa: F401 (a file may hold this subclass)

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give one that save() wrote")
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {})["miaod_plugin"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        name, parameters, classes = config["estimator"], config["parameters"], config["classes_"]
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a detector that save() wrote, or damaged ({error})") from error
    cls = next((kind for kind in (cls, *cls.__subclasses__()) if kind.__name__ == name), None)
    if cls is None:
        raise DataError(f"{path}: holds a {name}; load it with {name}.load")
    if detector is not None:
        parameters["detector"] = detector
    if parameters.get("detector") is None:
        raise ConfigError(f"{path}: its detector is not a registered one; pass it as load(path, detector=...)")
    estimator = _build(cls, parameters, path)
    estimator.classes_ = np.array(classes)
    with unchanged_random_state():
        estimator.network_ = _without_download(estimator)
    try:
        estimator.network_.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{path}: weights do not fit the detector: {str(error).splitlines()[0]}") from error
    estimator.network_.to(estimator._device(), memory_format=torch.channels_last).eval()
    estimator.losses_, estimator.n_steps_ = config["losses_"], config["n_steps_"]
    estimator.n_unlabeled_ = config["n_unlabeled_"]
    return estimator


def _build(cls, parameters: dict, path: Path):
    try:
        return cls(**parameters)
    except TypeError as error:
        raise DataError(f"{path}: written by another version of {cls.__name__} ({error})") from error


def _without_download(estimator):
    """Build the network without fetching the backbone weights that the file's own are about to replace."""
    options = estimator.detector_options
    if "weights" in inspect.signature(estimator.detector_factory()).parameters:
        estimator.detector_options = {**(options or {}), "weights": None}
    network = estimator._build_network()
    estimator.detector_options = options
    return network


def _plain(value):
    """Turn what JSON does not know into what it does."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(f"{value!r} cannot be saved as JSON; give plain values as parameters")
