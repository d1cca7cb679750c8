"""Frozen BatchNorm that convolutions apply is torchvision's frozen BatchNorm, to rounding, and is stored as that."""

import copy

import pytest
import torch
from torchvision.models import mobilenet_v2, resnet50
from torchvision.ops import FrozenBatchNorm2d

from miaod_plugin.detectors.frozen_norm import NormedConv2d, fold_frozen_norms

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def with_statistics(network):
    """Give the norms of a network values as training leaves them."""
    for norm in network.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.bias.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.weight.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(params=[resnet50, mobilenet_v2])
def networks(request):
    """Return torchvision's network, and the same folded."""
    torch.manual_seed(0)
    plain = with_statistics(request.param(norm_layer=FrozenBatchNorm2d))
    folded = copy.deepcopy(plain)
    fold_frozen_norms(folded)
    return plain, folded


def outputs_and_gradients(network, images=IMAGES):
    network.zero_grad()
    found = network(images)
    found.square().mean().backward()
    return [found.detach(), *(parameter.grad for parameter in network.parameters())]


def assert_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_outputs_and_gradients_are_torchvision_s_to_rounding(networks):
    plain, folded = (network.double() for network in networks)
    assert_close(outputs_and_gradients(folded, IMAGES.double()), outputs_and_gradients(plain, IMAGES.double()), 1e-10)


def test_every_norm_is_folded_and_the_state_dict_stays(networks):
    plain, folded = networks
    norms = sum(isinstance(part, FrozenBatchNorm2d) for part in plain.modules())
    assert sum(isinstance(part, NormedConv2d) for part in folded.modules()) == norms
    before, after = plain.state_dict(), folded.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)


def test_statistics_that_are_loaded_or_written_later_count(networks):
    plain, folded = networks
    folded(IMAGES)
    other = with_statistics(copy.deepcopy(plain))
    folded.load_state_dict(other.state_dict())
    assert_close([folded(IMAGES)], [other(IMAGES)], 1e-4)
    assert not torch.allclose(other(IMAGES), plain(IMAGES), rtol=1e-2)


def test_a_copy_applies_its_own_norms(networks):
    _, folded = networks
    expected = folded(IMAGES)
    other = with_statistics(copy.deepcopy(folded))
    assert not torch.allclose(other(IMAGES), expected, rtol=1e-2)
    assert torch.equal(folded(IMAGES), expected)


def test_training_goes_on_after_scoring_in_inference_mode(networks):
    _, folded = networks
    with torch.inference_mode():
        folded(IMAGES)
    assert all(gradient.isfinite().all() for gradient in outputs_and_gradients(folded))


def test_a_network_that_was_built_in_inference_mode_gives_the_same():
    with torch.inference_mode():
        plain = with_statistics(resnet50(norm_layer=FrozenBatchNorm2d))
        folded = copy.deepcopy(plain)
        fold_frozen_norms(folded)
        for _ in range(2):  # other norms after the first use
            assert_close([folded(IMAGES)], [plain(IMAGES)], 1e-5)
            folded.load_state_dict(with_statistics(plain).state_dict())
