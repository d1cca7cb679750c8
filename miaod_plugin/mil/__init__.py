"""MI-AOD itself: its maths, what its modes do, its objective and what it sees.

The functions of `maths` are the room's; ``mil.instance_uncertainty`` is what it all turns on.
"""

from ..detectors.losses import log_odds
from .maths import (
    agreement,
    discrepancy,
    image_classification_loss,
    image_scores,
    image_uncertainty,
    instance_uncertainty,
    instance_weights,
    pseudo_label_loss,
    pseudo_labels,
    weighted_uncertainty,
)

__all__ = [
    "agreement",
    "discrepancy",
    "image_classification_loss",
    "image_scores",
    "image_uncertainty",
    "instance_uncertainty",
    "instance_weights",
    "log_odds",
    "pseudo_label_loss",
    "pseudo_labels",
    "weighted_uncertainty",
]
