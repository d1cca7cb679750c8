"""Query strategies that every comparison needs."""

from typing import TYPE_CHECKING

from .coreset import CoreSetSampling
from .random_sampling import RandomSampling

if TYPE_CHECKING:
    from .entropy import EntropySampling

__all__ = ["CoreSetSampling", "EntropySampling", "RandomSampling"]


def __getattr__(name: str):
    if name == "EntropySampling":  # imported at first use: it is the only one of them that needs torch
        from .entropy import EntropySampling

        return EntropySampling
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
