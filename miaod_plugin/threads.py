"""The processor cores this process may use, and how the threads that share them wait for each other.

Torch splits each operation over OpenMP threads, which meet at its end. By default the first ones there wait actively:
on a machine where other programs want the cores, too, they keep the very thread that they wait for from running, and a
step can take ten times as long as with one thread. Threads that wait passively make room for it. OpenMP reads the
policy once, when it is loaded with torch, so it must be in the environment before.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

logger = logging.getLogger("miaod_plugin")

WAIT_POLICY = "OMP_WAIT_POLICY"
_ALSO_CHOOSE = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # the same, of GNU's and of Intel's OpenMP


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may keep busy: those it is bound to, or fewer if its container is limited."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
        return max(1, min(bound, int(limit) // int(period)))
    except (OSError, ValueError):  # not Linux, no control group, or "max": no limit
        return bound


def share_cores() -> None:
    """Set OpenMP up for this process, unless the user has: passive waiting, no more threads than cores.

    This is for programs; it has an effect only before torch is imported. The library itself leaves the environment as
    it is.
    """
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")
    if (cores := usable_cores()) < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


@contextmanager
def passive_waiting() -> Iterator[None]:
    """Let processes that are started meanwhile wait passively, unless the user has chosen."""
    chosen = os.environ.get(WAIT_POLICY)
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[WAIT_POLICY]


def waits_in_vain(threads: int, load: float, cores: int, environment: Mapping[str, str]) -> bool:
    """Whether threads wait actively, by default, on cores that are wanted by other programs: by `load` in all."""
    chosen = any(name in environment for name in (WAIT_POLICY, *_ALSO_CHOOSE))
    return threads > 1 and load > 1.5 * cores and not chosen


def warn_of_waiting(threads: int) -> None:
    """Log once in a process, where `waits_in_vain`, what to do about it."""
    if waits_in_vain(threads, os.getloadavg()[0], os.cpu_count() or 1, os.environ):
        _warn(threads)


@cache
def _warn(threads: int) -> None:
    logger.warning(
        "other programs keep this machine busy, and the %d threads of torch wait for each other actively, which slows"
        " every step down: start Python with %s=PASSIVE, or call torch.set_num_threads(1)", threads, WAIT_POLICY
    )  # fmt: skip
