"""Query strategies that every comparison needs."""

from miaod_plugin.baselines.coreset import CoreSetSampling
from miaod_plugin.baselines.entropy import EntropySampling
from miaod_plugin.baselines.random_sampling import RandomSampling

__all__ = ["CoreSetSampling", "EntropySampling", "RandomSampling"]
