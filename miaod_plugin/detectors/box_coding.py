"""What torchvision's `BoxCoder` does, to the bit, without its numbers that are copied to the GPU one by one."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, encode_boxes


def encode(boxes: Tensor, anchors: Tensor, coder: BoxCoder) -> Tensor:
    """Return boxes ``(P, 4)`` as their anchors' outputs should say them, as ``coder.encode_single``."""
    weights = torch.tensor(coder.weights, dtype=anchors.dtype).to(anchors.device, non_blocking=True)
    return encode_boxes(boxes, anchors, weights)


def decode(regression: Tensor, anchors: Tensor, coder: BoxCoder) -> Tensor:
    """Return the boxes that outputs of anchors say, ``(P, 4)``, as ``coder.decode_single``."""
    sides = anchors[:, 2:] - anchors[:, :2]
    scale_x, scale_y, scale_w, scale_h = coder.weights
    x, y, width, height = regression.unbind(dim=1)
    shift = torch.stack((x / scale_x, y / scale_y), dim=1)
    growth = torch.stack((width / scale_w, height / scale_h), dim=1).clamp(max=coder.bbox_xform_clip)
    centre, half = anchors[:, :2] + 0.5 * sides + shift * sides, 0.5 * (growth.exp() * sides)
    return torch.cat((centre - half, centre + half), dim=1)
