"""One batched pass over a pool of images, whatever its size."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from miaod_plugin.data import make_targets, read_image
from miaod_plugin.detectors.base import DetectionNetwork, InstanceOutputs
from miaod_plugin.errors import DataError


class PoolImages(Dataset):
    """Images without targets: item i is a uint8 tensor ``(3, H, W)``."""

    def __init__(self, X: np.ndarray):
        self.X = X

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: int) -> Tensor:
        return read_image(self.X[index])


def map_batches(
    network: DetectionNetwork,
    X: np.ndarray,
    reducers: Mapping[str, Callable[[InstanceOutputs], object]],
    batch_size: int,
    num_workers: int,
) -> dict[str, np.ndarray]:
    """Feed every reducer with the network's outputs, batch by batch, and stack its rows; see `ObjectDetector.map_pool`.

    Only one batch of instance outputs is in memory at a time.
    """
    if not len(X):
        raise DataError("X: there is no image in the pool")
    device = next(network.parameters()).device
    loader = DataLoader(
        PoolImages(X),
        batch_size,
        collate_fn=list,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),  # or the loader draws from torch's global one
    )
    rows = {name: [] for name in reducers}
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        for batch in loader:
            images = [image.to(device, non_blocking=True).float().div_(255) for image in batch]
            for name, row in _reduce(network, images, reducers).items():
                rows[name].append(row)
    network.train(was_training)
    return {name: _stack(parts) for name, parts in rows.items()}


def _reduce(network: DetectionNetwork, images: list[Tensor], reducers: Mapping) -> dict:
    """Return each reducer's rows of one batch; the outputs of its instances are gone before the next batch begins."""
    outputs = network(images)
    return {name: _to_cpu(reducer(outputs)) for name, reducer in reducers.items()}


def check_images(X) -> np.ndarray:
    """Return images as an array of paths ``(n,)`` of str, or uint8 ``(n, H, W, 3)``, or raise a DataError."""
    array = X if isinstance(X, np.ndarray) else np.asarray(list(X))
    if array.ndim == 1 and array.dtype.kind == "O" and all(isinstance(x, str) for x in array):
        array = array.astype(str)
    if array.ndim == 1 and (array.dtype.kind == "U" or not len(array)):
        return array
    if array.ndim == 4 and array.shape[3] == 3 and array.dtype == np.uint8:
        return array
    raise DataError(
        f"X: {array.dtype} of shape {array.shape} is not a set of images; give paths (n,) of str or uint8 (n, H, W, 3)"
    )


def _to_cpu(value):
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, dict):
        return {key: _to_cpu(entry) for key, entry in value.items()}
    return [_to_cpu(entry) for entry in value] if isinstance(value, list) else value


def _stack(parts: list) -> np.ndarray:
    if isinstance(parts[0], list):
        return make_targets([row for part in parts for row in part])
    return np.concatenate(parts)
