"""All query strategies by one import: the published ones, and the baselines every comparison needs."""

from miaod_plugin.baselines import CoreSetSampling, EntropySampling, RandomSampling

from .miaod import MIAODSampling
from .ppal import PPALSampling

__all__ = ["CoreSetSampling", "EntropySampling", "MIAODSampling", "PPALSampling", "RandomSampling"]
