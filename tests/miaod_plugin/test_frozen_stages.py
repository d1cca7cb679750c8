"""Stages of a backbone that are frozen stay as they are, bit for bit, the statistics of their BatchNorm included."""

import inspect

import pytest
import torch
from detector_batch import TARGETS, images
from tiny_detectors import TINY_OPTIONS

from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.registry import DETECTORS, find


def options_of(name):
    """Return small options with two stages frozen and BatchNorm trained, as far as the detector has them."""
    known = inspect.signature(find(DETECTORS, name)).parameters
    wanted = {"frozen_stages": 2, "batch_norm": "trained"}
    return TINY_OPTIONS[name] | {option: value for option, value in wanted.items() if option in known}


DETECTORS_WITH_STAGES = [name for name in TINY_OPTIONS if "frozen_stages" in options_of(name)]


@pytest.mark.parametrize("name", DETECTORS_WITH_STAGES)
def test_frozen_stages_keep_parameters_and_statistics_in_training(name):
    torch.manual_seed(0)
    network = DetectionNetwork(find(DETECTORS, name)(3, **options_of(name)))
    frozen = [module for module in network.modules() if any(not p.requires_grad for p in module.parameters(False))]
    trained = [module for module in network.modules() if any(p.requires_grad for p in module.parameters(False))]
    before = [{key: tensor.clone() for key, tensor in module.state_dict().items()} for module in frozen]
    statistics = [module.running_mean.clone() for module in trained if hasattr(module, "running_mean")]

    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.01)
    targets = [{"boxes": target["boxes"].float(), "labels": target["labels"]} for target in TARGETS]
    for _ in range(2):
        optimizer.zero_grad()
        sum(network([image.float() for image in images()], targets).loss.values()).backward()
        optimizer.step()

    assert len(frozen) > 2
    for module, state in zip(frozen, before, strict=True):
        assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items()), module
    after = [module.running_mean for module in trained if hasattr(module, "running_mean")]
    assert not statistics or not any(map(torch.equal, statistics, after)), "the others' statistics follow the images"
