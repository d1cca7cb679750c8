"""When to stop annotating, and what another round is expected to bring."""

from .base import Round, StoppingRule
from .fixed_set import agreement, uncertainty
from .learning_curve import Expected, LearningCurve
from .rules import OverallUncertainty, PredictedGain, SpentBudget, StabilisedPredictions

__all__ = [
    "Expected",
    "LearningCurve",
    "OverallUncertainty",
    "PredictedGain",
    "Round",
    "SpentBudget",
    "StabilisedPredictions",
    "StoppingRule",
    "agreement",
    "uncertainty",
]
