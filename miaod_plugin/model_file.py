"""Fitted detectors on disk: one safetensors file, weights as tensors and configuration as JSON in its header.

What a file says is checked before anything is built from it, and its detector is built without memory first, to see
whether the tensors that are in the file are those it has.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, field_validator
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .detectors.factory import without_weights
from .devices import chosen_device
from .errors import ConfigError, DataError, MiaodError, shown
from .randomness import unchanged_random_state
from .registry import TRAININGS, find, name_of
from .tensor_file import MODEL, is_kind, read_tensors, write_tensors
from .training.base import Training

# What belongs to one process or one training, not to the model; a file that named a checkpoint could have it deleted.
_NOT_SAVED = ("on_step", "checkpoint", "cache", "device", "devices", "verbose")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Training(_Part):
    """The name of a registered training, ``None`` for one that `load` is given, and its parameters."""

    name: str | None
    parameters: dict[str, Any]


class _Content(_Part):
    """What stands beside the weights; without a training, `training` was left out."""

    estimator: str
    parameters: dict[str, Any]
    training: _Training | None
    classes_: Annotated[list[str], Field(min_length=1)]
    losses_: dict[str, float]
    n_steps_: NonNegativeInt
    n_unlabeled_: NonNegativeInt

    @field_validator("classes_")
    @classmethod
    def _different(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("a class is listed twice")
        return names

    @field_validator("parameters")
    @classmethod
    def _of_the_model(cls, parameters: dict) -> dict:
        if wrong := [name for name in _NOT_SAVED if parameters.get(name) is not None]:
            raise ValueError(f"{wrong[0]} is not a model's")
        if not isinstance(parameters.get("detector"), str | None):
            raise ValueError("detector is not a name")
        return parameters


def save(estimator, path) -> None:
    """Write a fitted estimator's weights, parameters and classes, atomically."""
    path = Path(path)
    require_replaceable(path)
    parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name not in _NOT_SAVED}
    training = parameters.pop("training")
    if training is not None:
        own = _to_json(training.get_params(deep=False))
        training = {"name": name_of(TRAININGS, type(training)), "parameters": own}
    if callable(parameters["detector"]):
        parameters["detector"] = None  # `load` is given the factory again
    if isinstance(parameters["random_state"], np.random.Generator | np.random.RandomState):
        parameters["random_state"] = None
    content = {
        "estimator": type(estimator).__name__,
        "parameters": _to_json(parameters),
        "training": training,
        "classes_": estimator.classes_.tolist(),
        "losses_": estimator.losses_,
        "n_steps_": estimator.n_steps_,
        "n_unlabeled_": estimator.n_unlabeled_,
    }
    write_tensors(path, MODEL, content, estimator.network_.state_dict())


def require_replaceable(path: Path) -> None:
    """Raise a DataError if there is something at `path` other than a detector that `save` wrote.

    A link is replaced itself, never what it leads to.
    """
    if os.path.lexists(path) and not is_kind(path, MODEL):
        raise DataError(f"{path}: is there already, and not a detector that save() wrote; delete it or save elsewhere")


def load(cls, path, detector: Callable | None, device: str, training: Training | None):
    """Read an estimator of class `cls` or a subclass that `save` wrote; see `ObjectDetector.load`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give one that save() wrote")
    content, tensors = _read(path)
    estimator = _unfitted(cls, content, path, detector, training).set_params(device=device)
    place = chosen_device(device)
    if isinstance(estimator.detector, str):  # a factory of one's own need not know of `meta`
        _require_fit(_network(estimator, path, "meta", len(tensors)), tensors, path)
    network = _network(estimator, path, "cpu", len(tensors))
    _require_fit(network, tensors, path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"{path}: {shown(name)} holds numbers that are not finite; train again")
    network.load_state_dict(tensors)
    estimator.network_ = network.to(place, memory_format=torch.channels_last).eval()
    estimator.losses_, estimator.n_steps_ = content.losses_, content.n_steps_
    estimator.n_unlabeled_ = content.n_unlabeled_
    return estimator


def _read(path: Path) -> tuple[_Content, dict[str, Tensor]]:
    # the first files that `save` wrote had no checksum
    content, tensors = read_tensors(path, MODEL, "a detector that save() wrote", checksum=False)
    try:
        content = _Content.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its header"
        raise DataError(
            f"{path}: {shown(where)}: {first['msg']}; give a file that save() of this version wrote"
        ) from error
    return content, tensors


def _unfitted(cls, content: _Content, path: Path, detector: Callable | None, training: Training | None):
    """Return the estimator with the parameters and classes of a file, but without weights."""
    kind = next((kind for kind in _with_subclasses(cls) if kind.__name__ == content.estimator), None)
    if kind is None:
        name = shown(content.estimator)
        raise DataError(f"{path}: holds a {name}, no {cls.__name__}; load it with the load of its own class")
    if detector is None and content.parameters.get("detector") is None:
        raise ConfigError(f"{path}: its detector is not a registered one; pass it as load(path, detector=...)")
    known = {"training": training or _saved_training(content.training, path)}
    if detector is not None:
        known["detector"] = detector
    try:
        estimator = kind(**_from_json(content.parameters) | known)
        estimator._check_parameters()
    except (TypeError, RecursionError) as error:
        raise DataError(f"{path}: written by another version of {kind.__name__} ({error})") from error
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    estimator.classes_ = np.array(content.classes_)
    return estimator


def _saved_training(content: _Training | None, path: Path) -> Training | None:
    """Return the training with the parameters of a file."""
    if content is None:
        return None
    if content.name is None:
        raise ConfigError(f"{path}: its training is not a registered one; pass it as load(path, training=...)")
    try:
        return find(TRAININGS, content.name)(**_from_json(content.parameters))
    except (TypeError, RecursionError) as error:
        raise DataError(f"{path}: written by another version of {shown(content.name)} ({error})") from error
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def _with_subclasses(cls) -> Iterator[type]:
    yield cls
    for kind in cls.__subclasses__():
        yield from _with_subclasses(kind)


def _network(estimator, path: Path, device: str, n_tensors: int) -> nn.Module:
    """Build the network that the parameters of a file ask for, without downloading backbone weights."""
    options = estimator.detector_options
    try:
        estimator.detector_options = without_weights(estimator.detector, options)
        # several times the number in the file, since detectors drop the end of a classification network
        with unchanged_random_state(), torch.device(device), _at_most(4 * n_tensors + 1000):
            return estimator._build_network()
    except MiaodError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # whatever torch, torchvision or a detector makes of options that nobody has tried
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: its parameters do not build its detector ({reason})") from error
    finally:
        estimator.detector_options = options


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Stop a network that is being built from getting more parameters than this, such as a billion layers."""
    left = iter(range(count))

    def count_down(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if next(left, None) is None:
            raise ValueError(f"more than {count} parameters")

    hook = register_module_parameter_registration_hook(count_down)
    try:
        yield
    finally:
        hook.remove()


def _require_fit(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise a DataError that names the first tensor which the network lacks, or has of another shape or type."""
    expected = network.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            problem = f"{shown(name)} is {'missing' if name in expected else 'not one of its own'}"
        elif tensors[name].shape != expected[name].shape or tensors[name].dtype != expected[name].dtype:
            has, needs = (f"{one.dtype} of shape {tuple(one.shape)}" for one in (tensors[name], expected[name]))
            problem = f"{shown(name)} is {has}, not {needs}"
        else:
            continue
        raise DataError(f"{path}: weights do not fit the detector: {problem}")


# JSON has no tuples, so that one is written as the only value of an object with this key.
_TUPLE = "tuple"


def _to_json(value: object) -> object:
    """Turn a parameter into what JSON knows, so that `_from_json` gives an equal one, or the plain form of one."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, tuple):
        return {_TUPLE: [_to_json(entry) for entry in value]}
    if isinstance(value, list):
        return [_to_json(entry) for entry in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and set(value) != {_TUPLE}:
        return {key: _to_json(entry) for key, entry in value.items()}
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and np.isfinite(value)):
        return value
    raise ConfigError(f"{shown(value)} cannot be saved as JSON; give plain values as parameters")


def _from_json(value: object) -> object:
    if isinstance(value, list):
        return [_from_json(entry) for entry in value]
    if isinstance(value, dict) and value.keys() == {_TUPLE} and isinstance(value[_TUPLE], list):
        return tuple(_from_json(entry) for entry in value[_TUPLE])
    return {key: _from_json(entry) for key, entry in value.items()} if isinstance(value, dict) else value
