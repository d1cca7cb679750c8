"""The benchmark of training steps holds ours against the same network of torchvision's."""

import math
from dataclasses import replace

import pytest
import torch

from miaod_plugin.detectors.factory import build_detector
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.experiments.benchmarks.training import CLASSES, cases, step_times


def trained_shapes(network):
    return sorted(tuple(p.shape) for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", cases())
def test_the_peer_trains_the_same_parameters(name):
    case = cases()[name]
    ours = DetectionNetwork(build_detector(case.detector, case.options, CLASSES))
    assert trained_shapes(ours) == trained_shapes(case.peer())


def test_steps_of_both_are_timed_in_turn():
    torch.manual_seed(0)
    case = replace(cases(64)["RetinaNet-MobileNetV2"], batch_size=2)
    ours, theirs = step_times(case, 2, (48, 64))
    assert 0 < ours < math.inf and 0 < theirs < math.inf
