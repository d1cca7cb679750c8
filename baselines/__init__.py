"""Query strategies that every comparison needs."""

from .coreset import CoreSetSampling
from .entropy import EntropySampling
from .random_sampling import RandomSampling

__all__ = ["CoreSetSampling", "EntropySampling", "RandomSampling"]
