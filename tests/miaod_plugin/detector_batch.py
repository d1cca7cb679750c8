"""A batch that every detector's tests share: images of three sizes, the second without boxes.

In float64, as the same network in another memory layout differs by more than 1e-5 in float32.
"""

import torch
from torch import nn

TARGETS = [
    {
        "boxes": torch.tensor([[10.0, 10, 60, 80], [50, 20, 90, 90]], dtype=torch.float64),
        "labels": torch.tensor([0, 2]),
    },
    {"boxes": torch.zeros(0, 4, dtype=torch.float64), "labels": torch.zeros(0, dtype=torch.int64)},
    {"boxes": torch.tensor([[5.0, 5, 40, 50]], dtype=torch.float64), "labels": torch.tensor([1])},
]


def images(*sizes) -> list[torch.Tensor]:
    """Return random images of the given (height, width), by default three that differ."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(3, *size, generator=generator, dtype=torch.float64)
        for size in sizes or ((100, 160), (160, 100), (96, 96))
    ]


def from_one(targets) -> list[dict]:
    """Return targets as a torchvision model with a background class takes them."""
    return [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in targets]


def background_to_front(layer: nn.Module, num_classes: int) -> None:
    """Reorder the output channels of a layer (anchors x classes) from background last to background first."""
    for tensor in (layer.weight.data, layer.bias.data):
        tensor.copy_(tensor.unflatten(0, (-1, num_classes + 1)).roll(1, dims=1).flatten(0, 1))


def assert_same_detections(found, expected, first_label=0) -> None:
    """Compare two lists of detections; the labels of the expected ones begin with `first_label`."""
    assert sum(len(image["boxes"]) for image in expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours["boxes"], theirs["boxes"], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=1e-5, atol=1e-6)
        assert torch.equal(ours["labels"], theirs["labels"] - first_label)
