"""A network of two classifiers, on a detector of each family."""

import pytest
import torch
from tiny_detectors import ONE_OF_EACH_FAMILY, TINY_OPTIONS

from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.registry import DETECTORS, find

TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 50], [30, 20, 60, 60]]), "labels": torch.tensor([0, 2])},
    {"boxes": torch.tensor([[5.0, 5, 30, 30]]), "labels": torch.tensor([1])},
]


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_the_classification_loss_is_the_mean_over_the_classifiers(name):
    torch.manual_seed(0)
    network = DetectionNetwork(find(DETECTORS, name)(3, **TINY_OPTIONS[name]), adversarial=True)
    outputs = network([torch.rand(3, 64, 64) for _ in TARGETS], TARGETS)
    first, second = (network.detector.loss([head], outputs.boxes, outputs.features) for head in outputs.heads)
    assert first["classification"].item() != second["classification"].item()
    mean = (first["classification"].item() + second["classification"].item()) / 2
    assert outputs.loss["classification"].item() == pytest.approx(mean)
    for part in outputs.loss.keys() - {"classification"}:
        assert outputs.loss[part].item() == pytest.approx(first[part].item()), "the others have no classifier"
