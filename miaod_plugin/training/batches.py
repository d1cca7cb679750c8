"""The batches of a training: which images each step sees, read, moved to the device and flipped."""

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import horizontal_flip
from torchvision.tv_tensors import BoundingBoxes

from ..data import image_size, read_image
from ..data.pixel_cache import file_state
from ..distributed.group import ALONE, Group
from ..randomness import seeded


class TrainingImages(Dataset):
    """Labelled images with their boxes, then unlabelled ones: item i is ``(image uint8 (3, H, W), target or None)``."""

    def __init__(self, labeled, targets, unlabeled, read: Callable[..., Tensor] = read_image):
        self.labeled, self.targets, self.unlabeled, self.read = labeled, targets, unlabeled, read

    def digest(self) -> bytes:
        """Return a hash of which images these are and how they are annotated.

        An image file counts by its path, size and time of change, as build tools do: it is not read.
        """
        digest = hashlib.sha256()
        for images in (self.labeled, self.unlabeled):
            array = np.ascontiguousarray(images)
            digest.update(str((array.dtype, array.shape)).encode() + array.tobytes())
            if array.dtype.kind == "U":
                digest.update(str([file_state(path) for path in array.tolist()]).encode())
        for target in map(training_target, self.targets):
            digest.update(str(len(target["labels"])).encode())
            digest.update(target["boxes"].numpy().tobytes() + target["labels"].numpy().tobytes())
        return digest.digest()

    def __len__(self) -> int:
        return len(self.labeled) + len(self.unlabeled)

    def __getitem__(self, index: int) -> tuple[Tensor, dict | None]:
        if index < len(self.labeled):
            return self.read(self.labeled[index]), training_target(self.targets[index])
        return self.read(self.unlabeled[index - len(self.labeled)]), None


def training_target(target: dict) -> dict[str, Tensor]:
    """Return the boxes and labels to learn from; difficult objects and crowds are left out."""
    boxes = torch.as_tensor(np.asarray(target["boxes"], np.float32)).reshape(-1, 4)
    labels = torch.as_tensor(np.asarray(target["labels"], np.int64))
    keep = torch.ones(len(boxes), dtype=torch.bool)
    for flag in ("difficult", "iscrowd"):
        if flag in target:
            keep &= ~torch.as_tensor(np.asarray(target[flag], bool))
    return {"boxes": boxes[keep], "labels": labels[keep]}


# What SSD's authors do to an image before it is mirrored: other colours, a larger canvas, a part that holds objects.
_distort_and_expand = v2.Compose(
    [
        v2.RandomPhotometricDistort(),
        v2.RandomZoomOut(fill=[123, 117, 104], side_range=(1.0, 4.0)),  # ImageNet's mean colour
    ]
)
_crop = v2.Compose([v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes()])


def ssd_augmented(image: Tensor, target: dict | None, seed: tuple[int, ...]) -> tuple[Tensor, dict | None]:
    """Distort, expand and crop a uint8 image ``(3, H, W)`` with its boxes, by a seed of its own.

    An image without boxes, labelled or not, is not cropped, since a crop is chosen by the boxes in it.
    """
    boxes = torch.zeros(0, 4) if target is None else target["boxes"]
    labels = torch.zeros(0) if target is None else target["labels"]
    known = {"boxes": BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[1:])), "labels": labels}
    with seeded(seed):
        image, changed = _distort_and_expand(image, known)
        if len(boxes):  # else it would try hundreds of crops in vain
            image, changed = _crop(image, changed)
    return image, target and {"boxes": changed["boxes"].as_subclass(Tensor), "labels": changed["labels"]}


class AugmentedImages(Dataset):
    """Training images as a step sees them: item ``(stage, step, i)`` is image i, changed in a way of that step."""

    def __init__(self, images: TrainingImages, augmentation: str, seed: tuple[int, ...]):
        self.images, self.augmentation, self.seed = images, augmentation, seed

    def __getitem__(self, item: tuple[int, int, int]) -> tuple[Tensor, dict | None]:
        stage, step, index = item
        image, target = self.images[index]
        if self.augmentation == "ssd":
            return ssd_augmented(image, target, (*self.seed, stage, 2, step, index))
        return image, target


def load_batches(
    images: TrainingImages,
    stages,
    start: int,
    settings,
    seed: tuple[int, ...],
    pin_memory: bool = False,
    group: Group = ALONE,
) -> Iterator[tuple[list[Tensor], list[dict] | None]]:
    """Yield this process's share of the batches ``(images, targets)`` of all stages in turn, from step `start` on.

    Targets are ``None`` for unlabelled images; in a stage that mixes they come last, each with a ``None`` in the list.
    Processes that read images go on from one stage to the next.
    """
    return iter(
        DataLoader(
            AugmentedImages(images, settings.augmentation, seed),
            batch_sampler=islice(_batches(images, stages, settings, seed, group), start, None),
            collate_fn=_collate,
            num_workers=settings.num_workers,
            pin_memory=pin_memory,
            generator=torch.Generator().manual_seed(0),  # or the loader draws from torch's global one
        )
    )


def _batches(
    images: TrainingImages, stages, settings, seed: tuple[int, ...], group: Group
) -> Iterator[list[tuple[int, int, int]]]:
    """Yield the items of `AugmentedImages` that each step sees."""
    labeled_kinds, unlabeled_kinds = (
        [_higher_than_wide(x) if settings.group_by_aspect else False for x in part]
        for part in (images.labeled, images.unlabeled)
    )
    for number, stage in enumerate(stages):
        labeled = _shuffled(labeled_kinds, settings.batch_size, (*seed, number, 0))
        unlabeled = _shuffled(unlabeled_kinds, settings.batch_size, (*seed, number, 1))
        for step in range(stage.steps):
            alone = stage.alternates and step % 2
            batch = [] if alone else _share(next(labeled), group)
            if alone or stage.mixes:
                batch += [len(images.labeled) + index for index in _share(next(unlabeled), group)]
            yield [(number, step, index) for index in batch]


def _share(batch: list[int], group: Group) -> list[int]:
    return [batch[position] for position in group.share(len(batch))]


def _higher_than_wide(image) -> bool:
    height, width = image_size(image)
    return height > width


def _shuffled(kinds: list[bool], batch_size: int, seed: tuple[int, ...]) -> Iterator[list[int]]:
    """Yield batches of indices of one kind without end: permutation after permutation, each full, none in one twice.

    `kinds` has that of each index. Those of a kind that fill no batch wait for the next permutation; where there are
    fewer of a kind than a batch has, kinds do not count.
    """
    rng = np.random.default_rng(seed)
    size, queues = min(batch_size, len(kinds)), defaultdict(deque)
    if min(Counter(kinds).values(), default=0) < size:
        kinds = [False] * len(kinds)
    while kinds:
        fresh, waiting = rng.permutation(len(kinds)).tolist(), set().union(*queues.values())
        # indices still queued go behind, so that none appears twice in the batch that spans two permutations
        for index in sorted(fresh, key=waiting.__contains__):
            queue = queues[kinds[index]]
            queue.append(index)
            if len(queue) == size:
                yield [*queue]
                queue.clear()


def _collate(items: list[tuple[Tensor, dict | None]]) -> tuple[list[Tensor], list[dict] | None]:
    images, targets = map(list, zip(*items, strict=True))
    return images, None if targets[0] is None else targets  # labelled images come first


class BatchSize(NamedTuple):
    """How many labelled and unlabelled images a step sees, in all processes together."""

    labeled: int
    unlabeled: int

    @classmethod
    def of(cls, targets: list[dict | None] | None, images: TrainingImages, most: int) -> "BatchSize":
        """Return that of the step of which a process sees so many images as there are `targets`."""
        labeled = targets is not None
        unlabeled = not labeled or None in targets
        return cls(labeled * min(most, len(images.labeled)), unlabeled * min(most, len(images.unlabeled)))

    def share(self, group: Group) -> list[int]:
        """Return the positions in the batch of the images that this process sees."""
        return [*group.share(self.labeled), *(self.labeled + position for position in group.share(self.unlabeled))]


def drawn_flips(size: BatchSize, probability: float, seed: tuple[int, ...], group: Group = ALONE) -> np.ndarray:
    """Return which images of this process's share of a batch are to be flipped, bool."""
    return (np.random.default_rng(seed).random(sum(size)) < probability)[size.share(group)]


def augment(
    images: list[Tensor], targets: list[dict] | None, flips: np.ndarray, device: torch.device
) -> tuple[list[Tensor], list[dict] | None]:
    """Move a batch to the device as floats in 0..1, and flip those images with their boxes that are to be."""
    if targets is not None:
        widths = [image.shape[-1] for image in images]
        known = [target for target in targets if target is not None]
        known = [_mirrored(*of) if flip else of[0] for *of, flip in zip(known, widths, flips, strict=False)]
        targets = _moved(known, device) + [None] * (len(targets) - len(known))
    images = [image.to(device, non_blocking=True).float().div_(255) for image in images]
    return [horizontal_flip(image) if flip else image for image, flip in zip(images, flips, strict=True)], targets


def _mirrored(target: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    left, top, right, bottom = target["boxes"].unbind(1)
    return target | {"boxes": torch.stack([width - right, top, width - left, bottom], 1)}


def _moved(targets: list[dict[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    """Move the boxes and labels of a batch to the device, all at once."""
    if device.type == "cpu":
        return targets
    counts = [len(target["labels"]) for target in targets]
    parts = {
        key: torch.cat([target[key] for target in targets]).to(device, non_blocking=True).split(counts)
        for key in ("boxes", "labels")
    }
    return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
