"""From values of instances to maps over the image: what MI-AOD sees, as in Figure 6 of the paper."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import mil
from ..detectors.base import Features
from ..detectors.network import InstanceOutputs
from ..errors import MiaodError
from .objective import mil_instances
from .options import MIAODOptions


def image_maps(values: Tensor, features: Features) -> list[Tensor]:
    """Return a map over each image of the largest value among the instances that are centred there.

    Each level becomes a grid with the largest value of each cell's anchors, is interpolated between the anchors'
    centres, and the maps of the levels are merged by their maximum. Where each image has instances of its own
    (proposals), each one's value fills its box.

    Parameters
    ----------
    values : Tensor, (B, A)
        A value per instance, all levels in order.
    features : Features
        Of the same batch; levels are grids of anchors, or each image has its own.

    Returns
    -------
    list of Tensor, each (H, W)
        In pixels of the image as it was given.

    Raises
    ------
    MiaodError
        If the instances are not the anchors of the feature maps' cells.
    """
    given_and_resized = list(zip(features.original_sizes, features.image_sizes, strict=True))
    if features.anchors.dim() == 3:
        return [_fill(*image) for image in zip(values.float(), features.anchors, given_and_resized, strict=True)]
    shapes = [tuple(level.shape[-2:]) for level in features.maps]
    sizes = [h * w * count for (h, w), count in zip(shapes, features.per_cell, strict=True)]
    if not values.shape[1] == len(features.anchors) == sum(sizes):
        raise MiaodError(
            f"a heatmap needs the same number of anchors in every cell; got {values.shape[1]} values and"
            f" {len(features.anchors)} anchors for feature maps of {shapes}"
        )
    levels = list(zip(values.float().split(sizes, dim=1), features.anchors.split(sizes), shapes, strict=True))
    return [
        torch.stack(
            [_spread(level[i], anchors, shape, given, resized) for level, anchors, shape in levels],
        ).amax(dim=0)
        for i, (given, resized) in enumerate(given_and_resized)
    ]


def _fill(values: Tensor, boxes: Tensor, given_and_resized: tuple) -> Tensor:
    """Return a map of the given image with the largest value of the boxes ``(P, 4)`` over each pixel."""
    (height, width), resized = given_and_resized
    heat = values.new_zeros(height, width)
    scale = boxes.new_tensor([width / resized[1], height / resized[0]]).repeat(2)
    for value, (x1, y1, x2, y2) in zip(values, (boxes * scale).round().int().tolist(), strict=True):
        heat[y1:y2, x1:x2] = heat[y1:y2, x1:x2].clamp(min=value)
    return heat


def _spread(values: Tensor, anchors: Tensor, shape: tuple, given: tuple, resized: tuple) -> Tensor:
    """Interpolate one level's values ``(A_l,)`` between its anchors' centres at every pixel of the given image."""
    grid = values.view(*shape, -1).amax(dim=2)
    centres = ((anchors[:, :2] + anchors[:, 2:]) / 2).view(*shape, -1, 2).mean(dim=2)  # (H_l, W_l, 2) as x, y
    first, last = centres[0, 0], centres[-1, -1]
    rows, columns = (
        (torch.arange(pixels, device=values.device) + 0.5) * inner / pixels
        for pixels, inner in zip(given, resized, strict=True)
    )
    y = _place(rows, first[1], last[1], shape[0])
    x = _place(columns, first[0], last[0], shape[1])
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    return F.grid_sample(grid[None, None], places, padding_mode="zeros", align_corners=True)[0, 0]


def _place(pixels: Tensor, first: Tensor, last: Tensor, count: int) -> Tensor:
    """Return where pixels lie among `count` centres, -1 at the first and 1 at the last.

    Half a step beyond either still belongs to it; from there values fade.
    """
    if count == 1:
        return torch.zeros_like(pixels)
    cells = (pixels - first) / (last - first) * (count - 1)
    inside = cells.clamp(0, count - 1)
    beyond = cells - inside
    return (inside + beyond.sign() * (beyond.abs() - 0.5).clamp(min=0)) * 2 / (count - 1) - 1


def miaod_maps(outputs: InstanceOutputs, options: MIAODOptions) -> list[dict[str, Tensor]]:
    """Return what MI-AOD selects and learns by, as maps over each image; a reducer of `ObjectDetector.map_pool`.

    Parameters
    ----------
    outputs : InstanceOutputs
        Of a network with two adversarial classifiers and a MIL head.
    options : MIAODOptions

    Returns
    -------
    list of dict of Tensor, each (H, W)
        ``discrepancy``, ``mean_c (s1 - s2)^2`` (section 3.2); ``weight``, the largest instance weight over the classes
        (section 3.3); and ``product``, ``mean_c |s1 - s2| w``, which training minimises and maximises.
    """
    instances = mil_instances(outputs, options)
    first, second = (torch.cat(levels, dim=1) for levels in (instances.logits1, instances.logits2))
    opposed1, opposed2 = (torch.cat(levels, dim=1).sigmoid() for levels in instances.opposed)
    weights = torch.cat(instances.weights, dim=1)
    values = {
        "discrepancy": mil.instance_uncertainty(first, second),
        "weight": weights.amax(dim=2),
        "product": ((opposed1 - opposed2).abs() * weights).mean(dim=2),
    }
    maps = {name: image_maps(value, outputs.features) for name, value in values.items()}
    return [dict(zip(maps, images, strict=True)) for images in zip(*maps.values(), strict=True)]
