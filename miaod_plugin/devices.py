"""Where networks compute."""

import torch

from .distributed.group import group_of
from .errors import ConfigError, shown


def chosen_device(name: str | torch.device, devices: int = 1) -> torch.device:
    """Return the device of a name, ``"auto"`` for a GPU if there is one, or raise a ConfigError.

    Of several `devices` that torchrun's processes have, it is this process's own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and devices > 1 and (group := group_of(devices)):
        return group.device
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: {shown(name)} is not known; give 'auto', 'cpu', 'cuda', 'cuda:1', ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count() or "no"
        raise ConfigError(f"device: {shown(name)} is not there ({there} GPUs are); give 'auto' or 'cpu'")
    return device
