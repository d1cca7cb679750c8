"""The stages of a training, one after the other, step by step, whatever the training is.

Everything random in a step (its images, flips, dropout) follows from the seed and the step's number alone, so a
training that was cut off goes on from its last checkpoint to the same result, on a CPU to the last bit. Where several
processes share it, each has its part of every batch, whose gradients are added up: a process is like a micro batch.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from ..detectors.base import padded_sizes
from ..detectors.network import DetectionNetwork
from ..distributed.batch_norm import synchronised, trained_norms
from ..distributed.group import ALONE, Group
from ..errors import ConfigError, TrainingError, cut_list
from ..randomness import seed_torch, unchanged_random_state
from ..threads import warn_of_waiting
from .average import update_average
from .base import Stage, Training
from .batches import BatchSize, TrainingImages, augment, drawn_flips, load_batches
from .checkpoint import Checkpoint
from .losses import StepLosses


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
    micro_batch_size: int | None = None
    group_by_aspect: bool = False


def train(
    training: Training,
    network: DetectionNetwork,
    stages: list[Stage],
    images: TrainingImages,
    settings: Settings,
    seed: int,
    checkpoint: Checkpoint | None = None,
    group: Group = ALONE,
) -> dict[str, float]:
    """Run the stages in order on the network's device, and return the mean of each loss over the last stage.

    With a `checkpoint` it goes on from there, and leaves its state there as it goes. A training that averages weights
    is given a network `with_average`. Of a `group`, the first process alone writes, and calls `on_step`.

    Raises
    ------
    ConfigError
        If the batches are too small for the group.
    TrainingError
        If a loss is not finite; on a GPU up to `losses.READ_EVERY` steps later, but before a checkpoint.
    """
    require_enough(stages, images, settings, group)
    total = sum(stage.steps for stage in stages)
    device = next(network.parameters()).device
    if device.type == "cpu":
        warn_of_waiting(torch.get_num_threads())
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = new_optimizer(trainable, settings)
    start, means = checkpoint.restore(network, optimizer, group) if checkpoint else (0, {})
    if group.rank > 0:
        checkpoint, settings = None, replace(settings, on_step=None)
    batches = load_batches(images, stages, start, settings, (seed, 0), device.type == "cuda", group)
    warm_from = 0  # the step with which the warm-up began
    with unchanged_random_state(device), synchronised(network, group):
        for number, stage in enumerate(stages):
            begin = sum(earlier.steps for earlier in stages[:number])
            done = max(start - begin, 0)
            if stage.fresh_optimizer:
                warm_from = begin
            if done >= stage.steps:
                continue
            if done == 0:
                means = {}
                if stage.fresh_optimizer:
                    optimizer = new_optimizer(trainable, settings)
            training.begin(network, stage, trainable)
            if training.average:
                network.average.eval()
            waiting = StepLosses(device)
            for step, (inputs, targets) in enumerate(islice(batches, stage.steps - done), start=begin + done):
                seed_torch((seed, step), device)  # as no other step, nor one of a neighbouring seed
                set_learning_rate(optimizer, settings, step - warm_from, step / total)
                size = BatchSize.of(targets, images, settings.batch_size)
                flips = drawn_flips(size, settings.horizontal_flip, (seed, 1, step), group)
                inputs, targets = augment(inputs, targets, flips, device)
                optimizer.zero_grad(set_to_none=True)  # what does not train gets no gradient and no weight decay
                losses = descend(training, network, inputs, targets, stage, size, settings.micro_batch_size, group)
                group.sum_gradients(trainable)
                waiting.add({"step": step + 1, "total": total, "round": stage.kind}, sum(losses.values()), losses)
                last = step + 1 == begin + stage.steps
                events = waiting.read() if waiting.full or last or (checkpoint and checkpoint.due) else []
                if settings.max_grad_norm is not None:
                    nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)
                optimizer.step()
                training.after_step(network)
                if training.average:
                    update_average(network, training.average)
                for event in events:
                    means |= {name: _running_mean(means.get(name), x) for name, x in event["losses"].items()}
                if checkpoint and events:  # the losses up to this step are known to be finite
                    checkpoint.save(network, optimizer, step + 1, means)
                if settings.on_step:
                    for event in events:
                        settings.on_step(event)
    for parameter in trainable:
        parameter.requires_grad_(True)
    network.eval()
    if checkpoint:
        checkpoint.remove()
    return {name: mean for name, (_, mean) in means.items()}


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


def descend(
    training: Training,
    network: DetectionNetwork,
    images: list[Tensor],
    targets: list[dict | None] | None,
    stage: Stage,
    size: BatchSize,
    at_most: int | None,
    group: Group,
) -> dict[str, Tensor]:
    """Add up the gradients of the losses of this process's images, `at_most` at a time.

    Returns the losses of the whole batch, of the given size, by name, detached.
    """
    losses: dict[str, Tensor] = {}
    for part, of_part, count in _parts(images, targets, size, at_most):
        _require_in_step(network, part, of_part is None, at_most, group)
        with group.sees(len(part), count) if at_most is None else nullcontext():
            own = training.losses(network, part, of_part, stage)
            own = {name: x * training.share(name, len(part), count) for name, x in own.items()}
            loss = sum(own.values())
            if loss.requires_grad:
                loss.backward()
        losses |= {name: losses.get(name, 0) + x.detach() for name, x in own.items()}
    if group.size > 1:
        losses = dict(zip(losses, group.sum(torch.stack([*losses.values()])).unbind(), strict=True))
    return losses


def _parts(
    images: list[Tensor], targets: list[dict | None] | None, size: BatchSize, at_most: int | None
) -> Iterator[tuple[list[Tensor], list[dict] | None, int]]:
    """Yield some of these images, their targets, and how many of their kind are in the batch: labelled, then others."""
    n_labeled = sum(target is not None for target in targets or [])
    for some, known, count in ((images[:n_labeled], targets, size.labeled), (images[n_labeled:], None, size.unlabeled)):
        for start in range(0, len(some), at_most or len(some) or 1):
            end = min(start + (at_most or len(some)), len(some))
            yield some[start:end], known and known[start:end], count


def require_enough(stages: list[Stage], images: TrainingImages, settings: Settings, group: Group) -> None:
    """Raise a ConfigError if some process of a group would have no image in a batch."""
    unlabeled = any(stage.alternates or stage.mixes for stage in stages)
    sizes = {"labelled": len(images.labeled)} | ({"unlabelled": len(images.unlabeled)} if unlabeled else {})
    for kind, count in sizes.items():
        if (size := min(settings.batch_size, count)) < group.size:
            raise ConfigError(
                f"devices: {group.size} cannot share a batch of {size} {kind} image{'s' * (size > 1)}; give at most"
                f" {size}, or more images and a larger batch_size"
            )


def _require_in_step(
    network: DetectionNetwork, images: list[Tensor], unlabeled: bool, at_most: int | None, group: Group
) -> None:
    """Raise an error if BatchNorm, which adds up its statistics whenever it is called, is called for others elsewhere.

    The losses of unlabelled images are computed apart for each size that images are padded to.
    """
    if group.size == 1 or not trained_norms(network):
        return
    mend = "a detector_options.batch_norm that does not train, or devices=1"
    if at_most is not None:
        raise ConfigError(f"micro_batch_size: BatchNorm that trains needs whole batches; leave it out, or give {mend}")
    sizes = group.all([*dict.fromkeys(padded_sizes(network.detector, images))] if unlabeled else [])
    if others := [of_rank for of_rank in sizes if of_rank != sizes[0]]:
        one, other = (cut_list([f"{width} x {height}" for height, width in of]) for of in (sizes[0], others[0]))
        raise TrainingError(
            f"devices: of a batch of unlabelled images one process sees {one} pixels and another {other}, of which"
            f" BatchNorm cannot learn as one process does; give images of one size, {mend}"
        )


def _running_mean(so_far: tuple[int, float] | None, value: float) -> tuple[int, float]:
    """Return the count and mean of the values seen so far, with one more."""
    count, mean = so_far or (0, 0.0)
    return count + 1, mean + (value - mean) / (count + 1)
