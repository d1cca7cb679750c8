"""The file from which an interrupted training goes on."""

import logging
import os
import time
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from torch import Tensor
from torch.optim import Optimizer

from ..detectors.network import DetectionNetwork
from ..distributed.group import ALONE, Group
from ..errors import DataError
from ..tensor_file import read_tensors, write_tensors

logger = logging.getLogger("miaod_plugin")

KIND = "miaod_plugin_half_trained"
_WHAT = "a half-trained fit; delete it to start over"


class _State(BaseModel):
    """What stands beside the tensors: the training they belong to, its step, and count and mean of each loss."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    training: dict[str, str]
    step: NonNegativeInt
    means: dict[str, list[int | float]]


class Checkpoint:
    """The file of a half-trained fit: tensors, and what they belong to. It is gone once the training is done.

    Parameters
    ----------
    path : path
    seconds : float
        How old the last state must be for `save` to write another.
    training : dict of str
        What makes the training what it is, see `training_identity`.
    """

    def __init__(self, path, seconds: float, training: dict[str, str]):
        self.path, self.seconds, self.training = Path(path), seconds, training
        self.saved_at = time.monotonic()

    def restore(self, network: DetectionNetwork, optimizer: Optimizer, group: Group = ALONE) -> tuple[int, dict]:
        """Load the state of the same training when it was interrupted; the first of a group reads it for all.

        Returns how many steps it had done, and the running mean of each loss; ``(0, {})`` when there is nothing to
        resume. A file of another training is told of in the log, and overwritten later.

        Raises
        ------
        DataError
            If the file is damaged, or not one that `save` wrote.
        """
        found = group.from_first(self._found)
        if found is None:
            return 0, {}
        state, tensors = found
        network.load_state_dict(_under(tensors, "network."))
        _restore_optimizer(optimizer, _under(tensors, "optimizer."))
        return state.step, {name: (count, mean) for name, (count, mean) in state.means.items()}

    def _found(self) -> tuple[_State, dict[str, Tensor]] | None:
        """Return the state in the file, if it is of the same training."""
        if not os.path.lexists(self.path):
            return None
        state, tensors = _read(self.path)
        keys = sorted({*state.training, *self.training})
        others = [key for key in keys if state.training.get(key) != self.training.get(key)]
        if others:
            logger.warning("%s: of a training with other %s; starting over", self.path, ", ".join(others[:5]))
            return None
        return state, tensors

    @property
    def due(self) -> bool:
        """Whether the last state is older than `seconds`."""
        return time.monotonic() - self.saved_at >= self.seconds

    def save(self, network: DetectionNetwork, optimizer: Optimizer, step: int, means: dict) -> None:
        """Write the state if it is due."""
        if not self.due:
            return
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items() if value is not None}
        write_tensors(self.path, KIND, {"training": self.training, "step": step, "means": means}, tensors)
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the training is done."""
        self.path.unlink(missing_ok=True)


def discard_damaged(path: Path) -> None:
    """Delete a half-trained fit that cannot be read, and say so in the log; for whoever owns the path."""
    if os.path.lexists(path):
        try:
            _read(path)
        except DataError as error:
            logger.warning("%s: starting over", error)
            path.unlink()


def _read(path: Path) -> tuple[_State, dict[str, Tensor]]:
    content, tensors = read_tensors(path, KIND, _WHAT)
    try:
        return _State.model_validate(content), tensors
    except ValidationError as error:
        raise DataError(f"{path}: not {_WHAT} ({error.errors()[0]['msg']})") from error


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the values an optimiser keeps for each parameter; its settings follow from the training's own."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:  # in the memory format of the parameter, as it was before
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
