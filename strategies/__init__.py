"""All query strategies by one import: the published ones, and the baselines every comparison needs."""

from miaod_plugin.baselines import CoreSetSampling, EntropySampling, RandomSampling

from .cald import CALDSampling
from .class_balanced import ClassBalancedSampling
from .committee import CommitteeSampling
from .cost_aware import CostAwareSampling
from .enms import ENMSSampling
from .max_herding import MaxHerdingSampling
from .miaod import MIAODSampling
from .misses import MissesSampling
from .ppal import PPALSampling

__all__ = [
    "CALDSampling",
    "ClassBalancedSampling",
    "CommitteeSampling",
    "CoreSetSampling",
    "CostAwareSampling",
    "ENMSSampling",
    "EntropySampling",
    "MIAODSampling",
    "MaxHerdingSampling",
    "MissesSampling",
    "PPALSampling",
    "RandomSampling",
]
