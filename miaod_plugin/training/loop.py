"""Training: MI-AOD's rounds, from label-set training to the adversarial minimising and maximising rounds.

Everything random in a step (its images, flips, dropout) follows from the seed and the step's number alone, so a
training that was cut off goes on from its last checkpoint to the same result, on a CPU to the last bit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..detectors.base import group_by_padded_size
from ..detectors.network import DetectionNetwork
from ..errors import TrainingError
from ..mil.objective import labeled_losses, unlabeled_losses
from ..mil.options import MIAODOptions
from ..randomness import seed_torch, unchanged_random_state
from ..threads import warn_of_waiting
from .batches import TrainingImages, augment, load_batches
from .checkpoint import Checkpoint


@dataclass(frozen=True)
class Round:
    """A stage of the schedule: ``label`` (label-set training), ``min`` or ``max``, and its number of optimiser steps.

    In a ``min`` or ``max`` round every second step is on a batch of unlabelled images.
    """

    kind: str
    steps: int


@dataclass(frozen=True)
class Settings:
    """What the optimisation needs to know; see `ObjectDetector` for the meaning of each."""

    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup_steps: int
    drop_at: float
    max_grad_norm: float | None
    augmentation: str
    horizontal_flip: float
    num_workers: int
    on_step: Callable[[dict], None] | None


def train(
    network: DetectionNetwork,
    rounds: list[Round],
    images: TrainingImages,
    settings: Settings,
    options: MIAODOptions | None,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> dict[str, float]:
    """Run the rounds in order on the network's device, and return the mean of each loss over the last round.

    With a `checkpoint` it goes on from there, and leaves its state there as it goes.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    """
    total = sum(stage.steps for stage in rounds)
    device = next(network.parameters()).device
    if device.type == "cpu":
        warn_of_waiting(torch.get_num_threads())
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = new_optimizer(trainable, settings)
    start, means = checkpoint.restore(network, optimizer) if checkpoint else (0, {})
    keep_optimizer = options is None or options.keep_optimizer
    with unchanged_random_state(device):
        for number, stage in enumerate(rounds):
            begin = sum(earlier.steps for earlier in rounds[:number])
            done = max(start - begin, 0)
            if done >= stage.steps:
                continue
            if done == 0:
                means = {}
                if not keep_optimizer:
                    optimizer = new_optimizer(trainable, settings)
            set_trainable(network, trainable, stage.kind)
            batches = load_batches(images, stage, done, settings, (seed, 0, number))
            for step, (inputs, targets) in enumerate(batches, start=begin + done):
                seed_torch((seed, step), device)  # as no other step, nor one of a neighbouring seed
                set_learning_rate(optimizer, settings, step if keep_optimizer else step - begin, step / total)
                inputs, targets = augment(inputs, targets, settings.horizontal_flip, (seed, 1, step), device)
                if targets is None:
                    groups = group_by_padded_size(network.detector, inputs)
                    losses = unlabeled_losses([network(group) for group in groups], stage.kind, options)
                else:
                    losses = labeled_losses(network(inputs, targets), stage.kind, options)
                take_step(optimizer, trainable, losses, settings.max_grad_norm, f"step {step + 1} of {total}")
                values = {name: float(loss.detach()) for name, loss in losses.items()}
                means = {**means, **{name: _running_mean(means.get(name), value) for name, value in values.items()}}
                if checkpoint:
                    checkpoint.save(network, optimizer, step + 1, means)
                if settings.on_step:
                    settings.on_step({"step": step + 1, "total": total, "round": stage.kind, "losses": values})
    for parameter in trainable:
        parameter.requires_grad_(True)
    network.eval()
    if checkpoint:
        checkpoint.remove()
    return {name: mean for name, (_, mean) in means.items()}


def set_trainable(network: DetectionNetwork, trainable: list[nn.Parameter], kind: str) -> None:
    """Let train what a round trains: all (label), all but f1 and f2 (min), only f1 and f2 (max); freeze the rest."""
    adversarial = {id(parameter) for parameter in network.classifiers.parameters()}
    for parameter in trainable:
        parameter.requires_grad_(kind == "label" or (id(parameter) in adversarial) == (kind == "max"))
    network.train(kind != "max")
    network.classifiers.train(kind != "min")


def plan_rounds(epochs: list[tuple[str, int]], n_images: int, batch_size: int, max_steps: int | None) -> list[Round]:
    """Turn a schedule of ``(kind, epochs)`` into rounds of optimiser steps.

    An epoch is ``n_images / batch_size`` steps, rounded up; in a min or max round as many again, on unlabelled images.
    With `max_steps` the same schedule is stretched or squeezed to exactly that many steps in all.
    """
    per_epoch = math.ceil(n_images / min(batch_size, n_images))
    steps = [count * per_epoch * (1 if kind == "label" else 2) for kind, count in epochs]
    if max_steps is not None:
        ends = np.rint(np.cumsum(steps) / sum(steps) * max_steps).astype(int)
        steps = np.diff(ends, prepend=0).tolist()
    return [Round(kind, count) for (kind, _), count in zip(epochs, steps, strict=True) if count]


def new_optimizer(parameters: list[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Return SGD with momentum, the optimiser of the paper (section 4.1), or AdamW with betas (momentum, 0.999)."""
    rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, betas=(momentum, 0.999), weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, rate, momentum=momentum, weight_decay=decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: Settings, step: int, progress: float) -> None:
    """Set the rate of a step: a linear warm-up, and a tenth from `drop_at` of all steps on."""
    warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * warm * (0.1 if progress >= settings.drop_at else 1.0)


def take_step(optimizer, trainable: list[nn.Parameter], losses: dict[str, Tensor], max_norm, where: str) -> None:
    """Take one optimiser step on the sum of the losses; what does not train gets no gradient and no weight decay."""
    loss = sum(losses.values())
    if not torch.isfinite(loss):
        parts = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
        raise TrainingError(f"the loss is not finite at {where} ({parts}); lower learning_rate or set max_grad_norm")
    optimizer.zero_grad(set_to_none=True)
    if loss.requires_grad:
        loss.backward()
    if max_norm is not None:
        nn.utils.clip_grad_norm_(trainable, max_norm)
    optimizer.step()


def _running_mean(so_far: tuple[int, float] | None, value: float) -> tuple[int, float]:
    """Return the count and mean of the values seen so far, with one more."""
    count, mean = so_far or (0, 0.0)
    return count + 1, mean + (value - mean) / (count + 1)
