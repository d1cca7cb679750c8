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

from miaod_plugin import mil
from miaod_plugin.batches import TrainingImages, augment, load_batches
from miaod_plugin.checkpoint import Checkpoint
from miaod_plugin.detectors.base import DetectionNetwork, InstanceOutputs, group_by_padded_size
from miaod_plugin.errors import TrainingError
from miaod_plugin.options import MIAODOptions
from miaod_plugin.randomness import seed_torch, unchanged_random_state
from miaod_plugin.threads import warn_of_waiting

# What the softmax over the instances acts on, by MI-AOD's option `attention`.
ATTENTION = {"level": "probability", "image": "logit"}


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


def labeled_losses(outputs: InstanceOutputs, kind: str, options: MIAODOptions | None) -> dict[str, Tensor]:
    """Return the losses of a batch with targets by name; their sum is minimised."""
    losses = outputs.loss
    if options is not None and kind != "max":
        scores = mil.image_scores(mil_instances(outputs, options).weights)
        present = multi_hot(outputs.features.targets, scores)
        losses["image_classification"] = mil.image_classification_loss(scores, present)
    return losses


def unlabeled_losses(groups: list[InstanceOutputs], kind: str, options: MIAODOptions) -> dict[str, Tensor]:
    """Return the losses of a batch of unlabelled images by name.

    The batch comes in groups that are padded alike, each computed alone, so that an image's part in the losses does not
    depend on the others.
    """
    instances = [mil_instances(outputs, options) for outputs in groups]
    n_images = sum(len(outputs.image_sizes) for outputs in groups)
    weight = options.discrepancy_weight / (n_images if options.discrepancy_over == "mean" else 1)
    if kind == "max":
        return {"agreement": sum(mil.agreement(*one.opposed, one.weights, weight) for one in instances)}
    threshold = options.pseudo_label_threshold
    found = torch.cat([mil.pseudo_labels(one.logits1, one.logits2, threshold, one.valid) for one in instances])
    scores = torch.cat([mil.image_scores(one.weights) for one in instances])
    return {
        "discrepancy": sum(mil.discrepancy(*one.opposed, one.weights, weight) for one in instances),
        "pseudo_labels": mil.pseudo_label_loss(scores, found, per_image=options.pseudo_labels == "image"),
    }


@dataclass
class MILInstances:
    """The instances of a batch as the MI-AOD losses see them: lists over levels, or over the levels merged to one.

    `opposed` are the logits of both classifiers whose sigmoids the adversarial rounds compare.
    """

    logits1: list[Tensor]
    logits2: list[Tensor]
    opposed: tuple[list[Tensor], list[Tensor]]
    weights: list[Tensor]
    valid: list[Tensor] | None


def mil_instances(outputs: InstanceOutputs, options: MIAODOptions) -> MILInstances:
    """Return the logits of both classifiers and the instance weights that the options ask for."""
    levels = [*class_logits(outputs, options), outputs.mil_logits]
    valid = outputs.valid
    if options.attention == "image":
        levels = [[torch.cat(logits, dim=1)] for logits in levels]
        valid = None if valid is None else [torch.cat(valid, dim=1)]
    weights = [
        mil.instance_weights(*logits, attention=ATTENTION[options.attention], valid=mask)
        for *logits, mask in zip(*levels, valid or [None] * len(levels[0]), strict=True)
    ]
    opposed = (levels[0], levels[1])
    if outputs.network.detector.background and options.softmax == "discrepancy":
        opposed = tuple([mil.log_odds(level) for level in own] for own in opposed)
    return MILInstances(levels[0], levels[1], opposed, weights, valid)


def class_logits(outputs: InstanceOutputs, options: MIAODOptions) -> list[list[Tensor]]:
    """Return the logits of both classifiers whose sigmoids MI-AOD takes as class probabilities, as lists over levels.

    They are the heads' own, unless the probabilities of the detector are a softmax that `options.softmax` wants used.
    """
    detector = outputs.network.detector
    if not detector.background or options.softmax == "discrepancy":
        return outputs.heads
    return [[mil.log_odds(level)[..., : detector.num_classes] for level in levels] for levels in outputs.heads]


def multi_hot(targets: list[dict[str, Tensor]], scores: Tensor) -> Tensor:
    """Return the classes present in each labelled image in {0, 1}, of the shape ``(B, C)`` of the image scores."""
    classes = torch.zeros_like(scores)
    for row, target in zip(classes, targets, strict=True):
        row[target["labels"]] = 1
    return classes


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
