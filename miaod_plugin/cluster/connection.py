"""Reaching a Ray cluster, which the extra ``miaod-plugin[ray]`` installs."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from ..errors import ConfigError


def require_ray(what: str, *also: str) -> ModuleType:
    """Return Ray, or raise a ConfigError that begins with `what` where it or another module of the extra is missing."""
    for name in ("ray", *also):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            missing = "Ray" if name == "ray" else name
            raise ConfigError(f"{what}: {missing} is not installed; pip install 'miaod-plugin[ray]'") from None
    return import_module("ray")


def check_address(address: str | None, what: str) -> None:
    """Raise a ConfigError that begins with `what` where an address is one of Ray's client."""
    if address is not None and "://" in address:
        raise ConfigError(
            f"{what}: {address!r} is for programs outside the cluster; run the command on a node of it, with HOST:PORT"
            " or auto"
        )


@contextmanager
def connected(ray: ModuleType, address: str | None) -> Iterator[None]:
    """Connect this process to a cluster until the end, unless it is connected already.

    Parameters
    ----------
    ray : module
    address : str or None
        HOST:PORT, ``auto`` or ``local``; None for what RAY_ADDRESS says, or the one that runs here, or else a new one.

    Raises
    ------
    ConfigError
        If it cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported, unless the user wants it
    try:
        _require_listener(address)
        with _core_silent():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"Ray at {address or 'this machine'}: cannot be reached: {reason}") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _core_silent() -> Iterator[None]:
    """Keep Ray's core from writing on stderr what its own parts do: an error for each pool of actors of Ray Data.

    It does so from the level that it is told on, and on stderr that it was told.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _require_listener(address: str | None) -> None:
    """Raise an OSError or a ValueError at once where nobody listens at HOST:PORT: Ray tries for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()
