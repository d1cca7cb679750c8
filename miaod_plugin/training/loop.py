"""The stages of a training, one after the other, step by step, whatever the training is.

Everything random in a step (its images, flips, dropout) follows from the seed and the step's number alone, so a
training that was cut off goes on from its last checkpoint to the same result, on a CPU to the last bit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from ..detectors.network import DetectionNetwork
from ..randomness import seed_torch, unchanged_random_state
from ..threads import warn_of_waiting
from .average import update_average
from .base import Stage, Training
from .batches import TrainingImages, augment, load_batches
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
) -> dict[str, float]:
    """Run the stages in order on the network's device, and return the mean of each loss over the last stage.

    With a `checkpoint` it goes on from there, and leaves its state there as it goes. A training that averages weights
    is given a network `with_average`.

    Raises
    ------
    TrainingError
        If a loss is not finite; on a GPU up to `losses.READ_EVERY` steps later, but before a checkpoint.
    """
    total = sum(stage.steps for stage in stages)
    device = next(network.parameters()).device
    if device.type == "cpu":
        warn_of_waiting(torch.get_num_threads())
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = new_optimizer(trainable, settings)
    start, means = checkpoint.restore(network, optimizer) if checkpoint else (0, {})
    batches = load_batches(images, stages, start, settings, (seed, 0), pin_memory=device.type == "cuda")
    warm_from = 0  # the step with which the warm-up began
    with unchanged_random_state(device):
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
                inputs, targets = augment(inputs, targets, settings.horizontal_flip, (seed, 1, step), device)
                optimizer.zero_grad(set_to_none=True)  # what does not train gets no gradient and no weight decay
                losses = descend(training, network, inputs, targets, stage, settings.micro_batch_size)
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
    at_most: int | None,
) -> dict[str, Tensor]:
    """Add up the gradients of a batch's losses, `at_most` images at a time, and return the losses by name, detached."""
    losses: dict[str, Tensor] = {}
    for part, of_part, count in _parts(images, targets, at_most):
        own = training.losses(network, part, of_part, stage)
        own = {name: x * training.share(name, len(part), count) for name, x in own.items()}
        loss = sum(own.values())
        if loss.requires_grad:
            loss.backward()
        losses |= {name: losses.get(name, 0) + x.detach() for name, x in own.items()}
    return losses


def _parts(
    images: list[Tensor], targets: list[dict | None] | None, at_most: int | None
) -> Iterator[tuple[list[Tensor], list[dict] | None, int]]:
    """Yield some images of a batch, their targets, and how many of their kind there are: labelled, then unlabelled."""
    n_labeled = sum(target is not None for target in targets or [])
    for some, known in ((images[:n_labeled], targets), (images[n_labeled:], None)):
        for start in range(0, len(some), at_most or len(some) or 1):
            end = min(start + (at_most or len(some)), len(some))
            yield some[start:end], known and known[start:end], len(some)


def _running_mean(so_far: tuple[int, float] | None, value: float) -> tuple[int, float]:
    """Return the count and mean of the values seen so far, with one more."""
    count, mean = so_far or (0, 0.0)
    return count + 1, mean + (value - mean) / (count + 1)
