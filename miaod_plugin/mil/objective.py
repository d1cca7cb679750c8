"""What MI-AOD minimises: the losses of a labelled batch and of an unlabelled one, in each kind of round."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import mil
from ..detectors.network import InstanceOutputs
from ..distributed.group import true_of_all
from .options import MIAODOptions

# What the softmax over the instances acts on, by MI-AOD's option `attention`.
ATTENTION = {"level": "probability", "image": "logit"}


def labeled_losses(outputs: InstanceOutputs, kind: str, options: MIAODOptions) -> dict[str, Tensor]:
    """Return the losses of a batch with targets by name; their sum is minimised."""
    losses = outputs.loss
    if kind != "max":
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
    per_image = options.pseudo_labels == "image"
    if not per_image:  # one image without drops them all, whichever process sees it
        found = found * true_of_all(found.any(dim=1).all())
    scores = torch.cat([mil.image_scores(one.weights) for one in instances])
    return {
        "discrepancy": sum(mil.discrepancy(*one.opposed, one.weights, weight) for one in instances),
        "pseudo_labels": mil.pseudo_label_loss(scores, found, per_image=per_image),
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
