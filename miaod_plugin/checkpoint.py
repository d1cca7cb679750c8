"""The file from which an interrupted training goes on."""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch.optim import Optimizer

from miaod_plugin.batches import TrainingImages
from miaod_plugin.detectors.base import DetectionNetwork
from miaod_plugin.files import atomic_path


class Checkpoint:
    """The file of a half-trained fit: tensors, and what they belong to. It is gone once the training is done."""

    def __init__(self, network: DetectionNetwork, settings, rounds: list, images: TrainingImages, options, seed: int):
        self.path = None if settings.checkpoint is None else Path(settings.checkpoint)
        self.seconds = settings.checkpoint_seconds
        self.saved_at = time.monotonic()
        self.fingerprint = None
        if self.path is None:
            return
        without = {"checkpoint", "checkpoint_seconds", "on_step", "num_workers"}
        what = [{name: value for name, value in vars(settings).items() if name not in without}]
        what += [[asdict(stage) for stage in rounds], options and asdict(options), seed]
        what += [[name, list(tensor.shape)] for name, tensor in network.state_dict().items()]
        self.fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode() + images.digest()).hexdigest()

    def restore(self, network: DetectionNetwork, optimizer: Optimizer) -> tuple[int, dict]:
        """Load the state of the same training when it was interrupted.

        Returns how many steps it had done, and the running mean of each loss; ``(0, {})`` when there is nothing to
        resume or the file belongs to another training.
        """
        if self.path is None or not self.path.is_file():
            return 0, {}
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            return 0, {}
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        return state["step"], state["means"]

    def save(self, network: DetectionNetwork, optimizer: Optimizer, step: int, means: dict) -> None:
        """Write the state if the last one is older than `checkpoint_seconds`."""
        if self.path is None or time.monotonic() - self.saved_at < self.seconds:
            return
        state = {"fingerprint": self.fingerprint, "step": step, "means": means}
        state |= {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        with atomic_path(self.path) as temporary:
            torch.save(state, temporary)
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the training is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
