"""MI-AOD's adversarial rounds on a pool, for a detector that was trained on annotated images alone."""

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from ..labeled import labeled_images
from ..training.base import Stage

if TYPE_CHECKING:
    from ..estimator import ObjectDetector

logger = logging.getLogger("miaod_plugin")


def adapted_to(estimator: "ObjectDetector", pool: np.ndarray, labeled: tuple | None = None) -> "ObjectDetector":
    """Return a copy that has gone on, from label-set training, through the adversarial rounds on a pool.

    This is what a MI-AOD query does with a detector that has seen no unlabelled image; the detector itself does not
    change. Passing the pool to `fit` (`teach(..., unlabeled=pool)`) does it once instead of with every query.

    Parameters
    ----------
    estimator : ObjectDetector
        Fitted, by a `MIAOD` training.
    pool : ndarray
        Unlabelled images; a random subset as large as the labelled set is used.
    labeled : tuple (X, y), optional
        The annotated images to train on, and their targets; by default those of the last `fit`.
    """
    known = labeled_images(estimator, labeled)
    if known is None or known.y is None:
        raise ConfigError(
            "labeled: the adversarial rounds train on annotated images, which a loaded detector does not know;"
            " query with labeled=(X, y), or with adapt=False"
        )
    X, y = known
    stages = adversarial_stages(estimator, len(X), min(len(X), len(pool)))
    steps = sum(stage.steps for stage in stages)
    logger.info("no unlabelled image was seen in training: %d steps of adversarial rounds on the pool", steps)
    return estimator.trained_further(stages, X, y, pool)


def adversarial_stages(estimator: "ObjectDetector", n_labeled: int, n_unlabeled: int) -> list[Stage]:
    """Return the rounds that such a copy goes through, by the plan of the estimator's training."""
    return estimator.training_.adversarial_plan(n_labeled, n_unlabeled, estimator.batch_size, estimator.max_steps)
