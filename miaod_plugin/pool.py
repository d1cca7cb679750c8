"""One batched pass over a pool of images, whatever its size."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .data import image_size, make_targets, read_image
from .detectors.network import DetectionNetwork, InstanceOutputs
from .errors import DataError
from .threads import warn_of_waiting

WAITING = 4  # batches of bytes, as much memory as one batch of floats
TOO_LARGE = 16  # times the pixels that a detector is made for


class PoolImages(Dataset):
    """Images without targets: item i is a uint8 tensor ``(3, H, W)``, or the DataError that reading it ended in."""

    def __init__(self, X: np.ndarray):
        self.X = X

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: int) -> Tensor | DataError:
        try:
            return read_image(self.X[index])
        except DataError as error:
            return error  # raised by a worker, it would come out as the text of a traceback


def map_batches(
    network: DetectionNetwork,
    X: np.ndarray,
    reducers: Mapping[str, Callable[[InstanceOutputs], object]],
    batch_size: int,
    num_workers: int,
    on_broken: Callable[[int, DataError], None] | None = None,
) -> Iterator[tuple[np.ndarray, dict]]:
    """Feed every reducer with the network's outputs, batch by batch; see `ObjectDetector.map_batches`.

    Only one batch of instance outputs is in memory at a time. A batch holds images that are padded alike, so that the
    row of an image does not depend on its company.
    """
    if not len(X):
        raise DataError("X: there is no image in the pool")
    if next(network.parameters()).device.type == "cpu":
        warn_of_waiting(torch.get_num_threads())
    loader = DataLoader(
        PoolImages(X),
        batch_size,
        collate_fn=list,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),  # or the loader draws from torch's global one
    )
    images = _readable(chain.from_iterable(loader), on_broken)
    for batch in padded_alike(images, network.detector.padded_size, batch_size):
        yield np.array(list(batch)), _reduce(network, list(batch.values()), reducers)


def _readable(
    images: Iterable[Tensor | DataError], on_broken: Callable[[int, DataError], None] | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(index, image)`` of the images that could be read."""
    for index, image in enumerate(images):
        if not isinstance(image, DataError):
            yield index, image
        elif on_broken is None:
            raise image
        else:
            on_broken(index, image)


def padded_alike(
    images: Iterable[tuple[int, Tensor]], padded_size: Callable[[int, int], tuple[int, int]], batch_size: int
) -> Iterator[dict[int, Tensor]]:
    """Yield batches ``{index: image}`` of at most `batch_size` images ``(3, H, W)`` with one padded size.

    An image waits until as many of its kind have come; when `WAITING` batches of images wait, the largest group goes.
    """
    waiting: dict[tuple[int, int], dict[int, Tensor]] = defaultdict(dict)
    for index, image in images:
        kind = padded_size(*image.shape[-2:])
        waiting[kind][index] = image
        if len(waiting[kind]) == batch_size:
            yield waiting.pop(kind)
        elif sum(map(len, waiting.values())) == WAITING * batch_size:
            yield waiting.pop(max(waiting, key=lambda kind: len(waiting[kind])))
    yield from waiting.values()


def stack_rows(parts: list) -> np.ndarray:
    """Put a reducer's rows of all batches into one array; lists give an object array."""
    if isinstance(parts[0], list):
        return make_targets([row for part in parts for row in part])
    return np.concatenate(parts)


@torch.inference_mode()
def _reduce(network: DetectionNetwork, images: list[Tensor], reducers: Mapping) -> dict:
    """Return each reducer's rows of one batch; the outputs of its instances are gone before the next batch begins."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        outputs = network([image.to(device, non_blocking=True).float().div_(255) for image in images])
        return {name: _to_cpu(reducer(outputs)) for name, reducer in reducers.items()}
    finally:
        network.train(was_training)


def warn_of_size(network: DetectionNetwork, X: np.ndarray) -> None:
    """Warn where images are out of all proportion to those that the detector is made for, by the size of a few."""
    made_for = network.detector.made_for
    if made_for is None or not len(X):
        return
    sizes = []
    for row in np.linspace(0, len(X) - 1, min(len(X), 9)).astype(int):
        with suppress(DataError):  # said where the image is read
            sizes.append(image_size(X[row]))
    times = float(np.median([height * width for height, width in sizes] or [0])) / made_for**2
    if times > TOO_LARGE:
        warnings.warn(
            f"images have {times:.0f} times the pixels that this detector is made for, {made_for} x {made_for}, and as"
            " many times the instances: it will be slow and find small objects alone; choose one that resizes images,"
            " such as retinanet_mobilenet_v2_fpn or retinanet_resnet50_fpn, or make the images smaller",
            stacklevel=3,
        )


def _to_cpu(value):
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, dict):
        return {key: _to_cpu(entry) for key, entry in value.items()}
    return [_to_cpu(entry) for entry in value] if isinstance(value, list) else value
