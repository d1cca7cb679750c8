"""Where networks compute."""

import torch

from .errors import ConfigError, shown


def chosen_device(name: str | torch.device) -> torch.device:
    """Return the device of a name, ``"auto"`` for a GPU if there is one, or raise a ConfigError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
