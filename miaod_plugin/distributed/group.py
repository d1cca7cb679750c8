"""The processes that share a training or a pass, and what they tell each other. One process alone tells nobody."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import ConfigError

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # with another process, which may choose or write for hours
BUCKET = 1 << 24  # numbers whose sums are asked for at a time, so that no copy of all gradients is needed


@dataclass(frozen=True)
class Group:
    """The processes that work together, each of which is told who it is.

    Attributes
    ----------
    rank : int
        Of this process, from 0.
    size : int
    """

    rank: int = 0
    size: int = 1

    @property
    def device(self) -> torch.device:
        """The GPU of this process, if there is one."""
        return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")

    def share(self, count: int) -> range:
        """Return which of so many images in a row are this process's: as many as any other's, or one more or less."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, numbers: Tensor) -> Tensor:
        """Replace numbers by their sums over all processes, and return them."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their sums over all processes; what has one in none of them goes on to have none."""
        if self.size == 1:
            return
        there = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        dist.all_reduce(there, dist.ReduceOp.MAX)
        gradients = []
        for parameter, in_any in zip(parameters, there.tolist(), strict=True):
            if in_any and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if in_any:
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            sums = self.sum(torch.cat([gradient.flatten() for gradient in bucket]))
            parts = sums.split([gradient.numel() for gradient in bucket])
            torch._foreach_copy_(bucket, [part.view(of.shape) for part, of in zip(parts, bucket, strict=True)])

    def all(self, value: T) -> list[T]:
        """Return what each process gives, in their order."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first process makes, or raise there and everywhere what stops it."""
        if self.size == 1:
            return make()
        made = [None, None]
        if self.rank == 0:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        dist.broadcast_object_list(made, 0)
        if made[1] is not None:
            raise made[1]
        return made[0]

    @contextmanager
    def sees(self, count: int, of: int) -> Iterator[None]:
        """Say that what is computed inside is of this process's share of a batch, `count` images of so many."""
        token = _part.set(Part(self, self.share(of).start, count, of) if self.size > 1 else None)
        try:
            yield
        finally:
            _part.reset(token)


ALONE = Group()
_joined: Group | None = None


@dataclass(frozen=True)
class Part:
    """The images of a batch that a process sees: `count` from `first` on, of so many."""

    group: Group
    first: int
    count: int
    of: int


_part: ContextVar[Part | None] = ContextVar("part", default=None)


def images_beside() -> tuple[int, int]:
    """Return how many images of the batch come before and after those that this process sees."""
    part = _part.get()
    return (0, 0) if part is None else (part.first, part.of - part.first - part.count)


def of_all_parts(value: T) -> list[T]:
    """Return what each process that sees a part of the batch gives, in their order; else the value alone."""
    part = _part.get()
    return [value] if part is None else part.group.all(value)


def normaliser(count: Tensor) -> Tensor:
    """Return what a sum over the images at hand is divided by, from their `count` of positives, say; at least 1.

    Where other processes see the rest of the batch it is the count of the whole batch, times the share of its images
    that are at hand: then the mean over the processes, weighted by their images, is that of the whole batch.
    """
    part = _part.get()
    if part is None:
        return count.clamp(min=1)
    return part.group.sum(count.detach().float()).clamp(min=1) * (part.count / part.of)


def true_of_all(condition: Tensor) -> Tensor:
    """Return whether something is true of the images that each process sees, a bool scalar."""
    part = _part.get()
    return condition if part is None else part.group.sum((~condition).float()) == 0


def join(rank: int, size: int, **how) -> Group:
    """Make this process one of so many; `how` they find each other is passed to torch."""
    global _joined
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if not dist.is_initialized():
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE, **how)
    _joined = Group(rank, size)
    return _joined


def group_of(devices: int) -> Group | None:
    """Return the group in which this process is to work: alone, or with those that torchrun started beside it.

    ``None`` where it works with others that are still to be started.

    Raises
    ------
    ConfigError
        If torchrun started another number of processes.
    """
    if devices == 1:
        return ALONE
    if _joined is None and not dist.is_torchelastic_launched():
        return None
    group = _joined or join(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if group.size != devices:
        raise ConfigError(
            f"devices: {devices}, but torchrun started {group.size} processes in all; give {group.size}, or 1 for"
            " trainings that know nothing of each other"
        )
    return group


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield gradients in groups of one type, each at most `BUCKET` numbers or a single one."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        numbers = sum(one.numel() for one in bucket) + gradient.numel()
        if bucket and (numbers > BUCKET or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
