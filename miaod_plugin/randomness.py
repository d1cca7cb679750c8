"""Seeds, and random numbers of torch that leave its global state as it was, that of GPUs included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from .errors import ConfigError, shown

if TYPE_CHECKING:  # torch takes seconds to load, which a seed alone need not wait for
    import torch

LARGEST_SEED = 2**32 - 1  # as in scikit-learn


def seed_of(random_state) -> int:
    """Return a seed in 0..2^32-1 from an int, a numpy random generator (which is drawn from) or ``None`` (fresh)."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    whole = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if whole and 0 <= random_state <= LARGEST_SEED:
        return int(random_state)
    raise ConfigError(
        f"random_state: {shown(random_state)} is not allowed; give a whole number from 0 to {LARGEST_SEED}, or None"
    )


@contextmanager
def seeded(seed: int | tuple[int, ...], device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's random numbers on the CPU, and on `device` if that is a GPU; afterwards they go on as before."""
    with unchanged_random_state(device):
        seed_torch(seed, device)
        yield


@contextmanager
def unchanged_random_state(device: torch.device | None = None) -> Iterator[None]:
    """Restore the state of torch's random numbers on the CPU, and on `device` if that is a GPU."""
    import torch

    with torch.random.fork_rng(devices=[device] if _has_random_state(device) else []):
        yield


def seed_torch(seed: int | tuple[int, ...], device: torch.device | None = None) -> None:
    """Seed torch's random numbers where `unchanged_random_state` restores them.

    ``torch.manual_seed`` would also seed every GPU, at once or when CUDA starts.
    """
    import torch

    if isinstance(seed, tuple):
        seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)
    if _has_random_state(device):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _has_random_state(device: torch.device | None) -> bool:
    """Whether this is a GPU that random numbers are drawn on; one that nothing lies on yet has no state."""
    import torch

    return device is not None and device.type == "cuda" and torch.cuda.is_initialized()
