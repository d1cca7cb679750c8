"""Weights of a whole detector to start from: torchvision's from COCO, a file of such, or one that `save` wrote."""

import inspect
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.ops import FrozenBatchNorm2d

from ..errors import ConfigError, cut_list, shown
from ..randomness import unchanged_random_state
from ..tensor_file import MODEL, is_kind, read_tensors
from .backbones import downloading
from .base import Detector
from .network import DetectionNetwork

MOST_TIMES_LARGER = 8  # a file than the detector: float64, two classifiers and a MIL head included
FIRST = "classifiers.0."  # what a network of one classifier calls it


@dataclass
class StartingWeights:
    """Tensors for a network to start from, and what they were trained to tell apart.

    Attributes
    ----------
    origin : str
        Where they are from, for messages.
    tensors : dict of Tensor
        By their names in a `DetectionNetwork`.
    classes : list of str or None
        In label order, if that is known.
    """

    origin: str
    tensors: Mapping[str, Tensor]
    classes: list[str] | None = None

    def fill(self, network: DetectionNetwork, classes: list[str]) -> None:
        """Give a network these weights.

        Each classifier and the MIL head get those of their own name, or else of the first classifier. Layers whose
        shape depends on the classes stay as they are, unless these are the same and the weights of the layer's own
        name.

        Raises
        ------
        ConfigError
            If a tensor is missing, unknown or of another shape.
        """
        same = self.classes == classes
        left_out = set() if same else {name for part in network.detector.of_classes for name in _within(network, part)}
        given = {name: tensor for name, tensor in self.tensors.items() if name.startswith("detector.")}
        for head in _heads(network):
            own = any(name.startswith(head) for name in self.tensors)
            source, last = (head if own else FIRST), _last_layers(network, head)
            if not (own and same and all(_fits(network, self.tensors, name) for name in last)):
                left_out |= last
            for name in _within(self.tensors, source):
                given[head + name.removeprefix(source)] = self.tensors[name]
        given = {name: tensor for name, tensor in given.items() if name not in left_out}
        if broken := [name for name, tensor in given.items() if not tensor.isfinite().all()]:
            raise ConfigError(f"{self.origin} holds numbers that are not finite, in {shown(broken[0])}")
        try:
            missing, unknown = network.load_state_dict(given, strict=False)
        except RuntimeError as error:
            wrong = next(line.strip() for line in str(error).splitlines() if "size mismatch" in line)
            raise ConfigError(f"{self.origin} does not fit the detector: {wrong.rstrip('.')}") from None
        missing = [name for name in missing if name not in left_out]
        if missing or unknown:
            what = f"it lacks {cut_list(missing, 2)}" if missing else f"the detector has no {cut_list(unknown, 2)}"
            raise ConfigError(f"{self.origin} does not fit the detector: {what}; give the options it was trained with")


def _heads(network: DetectionNetwork) -> list[str]:
    """Return what the names of a network's classifiers, and of its MIL head, begin with."""
    heads = [f"classifiers.{number}." for number in range(len(network.classifiers))]
    return heads if network.mil_head is None else [*heads, "mil_head."]


def _within(named: Mapping | nn.Module, prefix: str) -> Iterator[str]:
    names = named.state_dict() if isinstance(named, nn.Module) else named
    return (name for name in names if name.startswith(prefix))


def _fits(network: DetectionNetwork, tensors: Mapping[str, Tensor], name: str) -> bool:
    return name in tensors and tensors[name].shape == network.state_dict()[name].shape


def _last_layers(network: DetectionNetwork, head: str) -> set[str]:
    """Return the names of those tensors of a head whose shape depends on the number of classes."""
    detector = network.detector
    with unchanged_random_state(), torch.device("meta"):
        some, more = (detector.build_classifier(count).state_dict() for count in (2, 3))
    return {head + name for name in some if some[name].shape != more[name].shape}


def starts_from_detectors(published: type[WeightsEnum] | None = None, zero_eps: bool = False) -> Callable:
    """Decorate a detector's factory so that its `weights` may be a whole detector's, too.

    Parameters
    ----------
    published : type
        Those that torchvision has, by name.
    zero_eps : bool
        Whether torchvision's were trained with a frozen BatchNorm that adds nothing to the variance.
    """

    def decorate(build: Callable) -> Callable:
        default = inspect.signature(build).parameters["weights"].default
        names = set() if published is None else published.__members__.keys() - {"DEFAULT"}  # which is the backbone's

        @wraps(build)
        def call(num_classes: int, *, weights=default, **options) -> Detector:
            if isinstance(weights, str) and weights in names:
                detector = build(num_classes, weights=None, **options)
                with downloading(published[weights]):
                    state = published[weights].get_state_dict(check_hash=True, weights_only=True)
                if zero_eps:
                    _add_to_variances(state, -FrozenBatchNorm2d(1).eps)
                detector.starting_weights = _of_torchvision(detector, state, f"weights: {weights}")
                return detector
            if isinstance(weights, str | Path) and os.path.isfile(weights):
                with unchanged_random_state(), torch.device("meta"):
                    detector = build(num_classes, weights=None, **options)
                if (starting := _read(Path(weights), detector)) is not None:
                    detector = build(num_classes, weights=None, **options)
                    detector.starting_weights = starting
                    return detector
            return build(num_classes, weights=weights, **options)

        return call

    return decorate


def _add_to_variances(state: dict[str, Tensor], number: float) -> None:
    """Let a BatchNorm with its usual eps compute what one computes whose eps is larger by this number."""
    for name in state:
        if name.endswith("running_var"):
            state[name] = state[name] + number


def _read(path: Path, detector: Detector) -> StartingWeights | None:
    """Return the weights of a whole detector in a file, or None if there are none, or only a backbone's."""
    needed = sum(tensor.nbytes for tensor in detector.state_dict().values())
    if _unpacked_size(path) > MOST_TIMES_LARGER * needed:
        return None
    origin = f"weights: {path}"
    if is_kind(path, MODEL):
        content, tensors = read_tensors(path, MODEL, "a detector that save() wrote", checksum=False)
        classes = content.get("classes_") if isinstance(content, dict) else None
        return StartingWeights(origin, tensors, classes)
    state = _state_dict(path)
    whole = any(name.startswith("backbone.") for name in state) and any(
        name.startswith(("head.", "roi_heads.")) for name in state
    )
    return _of_torchvision(detector, state, origin) if whole else None


def _unpacked_size(path: Path) -> int:
    size = os.path.getsize(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    return size


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Return names and tensors of a safetensors file or of what ``torch.save`` wrote, empty if it is neither."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError):
        pass
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged file or one of other things makes torch raise
        return {}
    named = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    )
    return dict(state) if named else {}


def _of_torchvision(detector: Detector, state: Mapping[str, Tensor], origin: str) -> StartingWeights:
    """Return the weights of torchvision's own model of such a detector, by our names."""
    tensors = {}
    for name, tensor in state.items():
        theirs, ours = next(pair for pair in detector.torchvision_names if name.startswith(pair[0]))
        tensors[ours + name.removeprefix(theirs)] = tensor
    return StartingWeights(origin, tensors)
