"""Boxes as outputs of anchors: torchvision's numbers, and no wait for a GPU."""

import pytest
import torch
from pretended_gpu import GPU, PretendedGPU
from torchvision.models.detection._utils import BoxCoder

from miaod_plugin.detectors.box_coding import decode, encode


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_boxes_are_coded_to_torchvision_s_bits_without_waiting_for_a_gpu(weights):
    generator = torch.Generator().manual_seed(0)
    corners, sides = 100 * torch.rand(2, 200, 2, generator=generator)
    anchors = torch.cat([corners, corners + sides + 1], dim=1)
    regression = 9 * torch.randn(200, 4, generator=generator)  # so that some sides are cut off at the clip
    coder = BoxCoder(weights)
    boxes = coder.decode_single(regression, anchors)
    with PretendedGPU() as gpu:
        on_gpu = [x.to(GPU) for x in (regression, anchors, anchors.flip(0))]
        found, back = decode(*on_gpu[:2], coder), encode(on_gpu[2], on_gpu[1], coder)
        assert not gpu.waits
        assert torch.equal(found.cpu(), boxes)
        assert torch.equal(back.cpu(), coder.encode_single(anchors.flip(0), anchors))
