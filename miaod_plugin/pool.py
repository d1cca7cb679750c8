"""One batched pass over a pool of images, whatever its size."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from .data import image_size, make_targets, read_image
from .detectors.network import DetectionNetwork, InstanceOutputs
from .detectors.precision import computing_in
from .distributed.group import ALONE, Group
from .errors import ConfigError, DataError, MiaodError, shown
from .threads import warn_of_waiting
from .training.batches import training_target

T = TypeVar("T")  # an image, as it waits for its batch
WAITING = 4  # batches of bytes, as much memory as one batch of floats
TOO_LARGE = 16  # times the pixels that a detector is made for


class PoolImages(Dataset):
    """Images without targets: item i is a uint8 tensor ``(3, H, W)``, or the DataError that reading it ended in."""

    def __init__(self, X: np.ndarray, read: Callable[..., Tensor] = read_image):
        self.X, self.read = X, read

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: int) -> Tensor | DataError:
        try:
            return self.read(self.X[index])
        except DataError as error:
            return error  # raised by a worker, it would come out as the text of a traceback


def map_batches(
    network: DetectionNetwork,
    X: np.ndarray,
    reducers: Mapping[str, Callable[[InstanceOutputs], object]],
    batch_size: int,
    num_workers: int,
    on_broken: Callable[[int, DataError], None] | None = None,
    y: np.ndarray | None = None,
    views: Sequence[Callable[[Tensor], Tensor]] | None = None,
    read: Callable[..., Tensor] = read_image,
    precision: str = "float32",
    group: Group = ALONE,
) -> Iterator[tuple[np.ndarray, dict]]:
    """Feed every reducer with the network's outputs, batch by batch; see `ObjectDetector.map_batches`.

    Only one batch of instance outputs is in memory at a time, with `views` one of each. A batch holds images that are
    padded alike in every view, so that the row of an image does not depend on its company. The processes of a `group`
    take batches in turn, and each is given those of all.
    """
    if not len(X):
        raise DataError("X: there is no image in the pool")
    if y is not None and views is not None:
        raise ConfigError("views: targets do not turn with the images; pass y or views, not both")
    if views is not None and not views:
        raise ConfigError("views: there is none; give functions of an image, or None")
    if next(network.parameters()).device.type == "cpu":
        warn_of_waiting(torch.get_num_threads())
    own = np.flatnonzero(np.arange(len(X)) // batch_size % group.size == group.rank)
    look = partial(_map_own, network, X, own, reducers, batch_size, num_workers, y, views, read, precision)
    yield from look(on_broken) if group.size == 1 else _of_all(group, look, on_broken)


def _of_all(
    group: Group, look: Callable[..., Iterator[tuple]], on_broken: Callable[[int, DataError], None] | None
) -> Iterator[tuple[np.ndarray, dict]]:
    """Yield the batches of all processes, one of each at a time; what stops one of them is raised in all."""
    broken: list[tuple[int, DataError]] = []
    batches = look(None if on_broken is None else lambda index, error: broken.append((index, error)))
    going_on = True
    while going_on:
        batch = stopped = None
        try:
            batch = next(batches, None)
        except MiaodError as error:
            stopped = error
        round_ = group.all((batch, broken, stopped))
        broken.clear()
        for _, unreadable, stopped in round_:
            for index, error in unreadable:
                on_broken(index, error)
            if stopped is not None:
                raise stopped
        found = [batch for batch, _, _ in round_ if batch is not None]
        yield from found
        going_on = bool(found)


def _map_own(
    network: DetectionNetwork,
    X: np.ndarray,
    own: np.ndarray,
    reducers: Mapping,
    batch_size: int,
    num_workers: int,
    y: np.ndarray | None,
    views: Sequence[Callable] | None,
    read: Callable[..., Tensor],
    precision: str,
    on_broken: Callable[[int, DataError], None] | None,
) -> Iterator[tuple[np.ndarray, dict]]:
    """Yield what `map_batches` does of this process's `own` rows of X."""
    loader = DataLoader(
        Subset(PoolImages(X, read), own.tolist()),
        batch_size,
        collate_fn=list,
        num_workers=num_workers,
        pin_memory=next(network.parameters()).is_cuda,
        generator=torch.Generator().manual_seed(0),  # or the loader draws from torch's global one
    )
    padded_size = network.detector.padded_size
    images = _readable(zip(own.tolist(), chain.from_iterable(loader), strict=True), on_broken)
    seen = ((index, [image] if views is None else _seen(image, views)) for index, image in images)
    for batch in padded_alike(seen, lambda views: tuple(padded_size(*x.shape[-2:]) for x in views), batch_size):
        targets = None if y is None else [training_target(y[index]) for index in batch]
        with computing_in(precision):
            rows = _reduce(network, list(batch.values()), targets, reducers)
        yield np.array(list(batch)), rows


def _readable(
    images: Iterable[tuple[int, Tensor | DataError]], on_broken: Callable[[int, DataError], None] | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(index, image)`` of the images that could be read."""
    for index, image in images:
        if not isinstance(image, DataError):
            yield index, image
        elif on_broken is None:
            raise image
        else:
            on_broken(index, image)


def _seen(image: Tensor, views: Sequence[Callable[[Tensor], Tensor]]) -> list[Tensor]:
    """Return an image as each view shows it."""
    seen = [view(image) for view in views]
    for view, x in zip(views, seen, strict=True):
        if not isinstance(x, Tensor) or x.dtype != torch.uint8 or x.ndim != 3 or len(x) != 3:
            what = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else shown(x)
            raise ConfigError(f"views: {shown(view)} makes {what} of an image; it must make a uint8 tensor (3, H, W)")
    return seen


def padded_alike(
    images: Iterable[tuple[int, T]], kind_of: Callable[[T], Hashable], batch_size: int
) -> Iterator[dict[int, T]]:
    """Yield batches ``{index: image}`` of at most `batch_size` images of one kind: what they are padded to.

    An image waits until as many of its kind have come; when `WAITING` batches of images wait, the largest group goes.
    """
    waiting: dict[Hashable, dict[int, T]] = defaultdict(dict)
    for index, image in images:
        kind = kind_of(image)
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
def _reduce(
    network: DetectionNetwork, seen: list[list[Tensor]], targets: list[dict[str, Tensor]] | None, reducers: Mapping
) -> dict:
    """Return each reducer's rows of one batch; the outputs of its instances are gone before the next batch begins.

    `seen` has the views of each image.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        outputs = []
        for view in zip(*seen, strict=True):
            images = [image.to(device, non_blocking=True).float().div_(255) for image in view]
            outputs.append(network(images))
        if targets is not None:
            targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
            outputs[0].annotated = images, targets
        return {name: _to_cpu(reducer(*outputs)) for name, reducer in reducers.items()}
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
    """Return the same with arrays for tensors; those of a list come by one copy, as a GPU lets the host wait."""
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, dict):
        return {key: _to_cpu(entry) for key, entry in value.items()}
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(entry, dict) and entry.keys() == value[0].keys() for entry in value):
        columns = {key: _to_cpu([entry[key] for entry in value]) for key in value[0]}
        return [{key: column[k] for key, column in columns.items()} for k in range(len(value))]
    if all(isinstance(entry, Tensor) and entry.is_cuda and entry.ndim for entry in value):
        alike = {(entry.dtype, entry.shape[1:]) for entry in value}
        if len(alike) == 1:
            return [part.numpy() for part in torch.cat(value).cpu().split([len(entry) for entry in value])]
    return [_to_cpu(entry) for entry in value]
