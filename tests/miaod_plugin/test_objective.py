"""What MI-AOD minimises on an unlabelled image, by hand."""

import math

import pytest
import torch

from miaod_plugin.detectors.base import Features
from miaod_plugin.detectors.network import DetectionNetwork, InstanceOutputs
from miaod_plugin.detectors.retinanet import retinanet_tiny
from miaod_plugin.mil.objective import unlabeled_losses
from miaod_plugin.mil.options import miaod_options


def outputs_of(f1, f2, mil_logits, valid=None) -> InstanceOutputs:
    """Return the outputs of a network about one image of one level, made of ``(A, C)`` logits."""
    features = Features([], torch.zeros(len(f1), 4), [(8, 8)], [(8, 8)], (8, 8), valid=valid)
    outputs = InstanceOutputs(features, DetectionNetwork(retinanet_tiny(2), adversarial=True))
    outputs.heads, outputs.mil_logits = [[f1[None]], [f2[None]]], [mil_logits[None]]
    return outputs


THREE_TO_ONE = torch.tensor([math.log(3), 0.0])  # a softmax makes weights of 3/4 and 1/4 of it


@pytest.mark.parametrize("mode", ["improved", "faithful"])
def test_a_class_that_is_seen_on_padding_alone_is_no_pseudo_label(mode):
    seen = torch.tensor([[3.0, -5], [-5, -5], [-5, 3]])  # the first class on the image, the second on its padding
    outputs = outputs_of(seen, seen, THREE_TO_ONE.expand(3, 2), [torch.tensor([[True, True, False]])])
    loss = unlabeled_losses([outputs], "min", miaod_options(mode))["pseudo_labels"]
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 - 1 / 4)) / 2)


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_the_discrepancy_has_the_weight_of_the_options_in_both_adversarial_rounds(weight):
    outputs = outputs_of(torch.zeros(1, 2), THREE_TO_ONE[None], THREE_TO_ONE[None])
    options = miaod_options("improved", {"discrepancy_weight": weight})
    apart = 3 / 4 - 1 / 2  # of the scores of the first class; those of the second are alike
    discrepancy = unlabeled_losses([outputs], "min", options)["discrepancy"]
    agreement = unlabeled_losses([outputs], "max", options)["agreement"]
    assert discrepancy.item() == pytest.approx(weight * apart * 3 / 4 / 2)
    assert agreement.item() == pytest.approx(weight * ((1 - apart) * 3 / 4 + 1 / 4) / 2)
