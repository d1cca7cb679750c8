"""Published query strategies."""

from miaod_plugin.strategies.miaod import MIAODSampling

__all__ = ["MIAODSampling"]
