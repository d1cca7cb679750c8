"""MI-AOD's adversarial rounds on a pool, for a detector that was trained on annotated images alone."""

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from ..labeled import labeled_images

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
    n_unlabeled = min(len(X), len(pool))
    training, sizes = estimator.training_, (estimator.batch_size, estimator.max_steps)
    stages = training.adversarial_plan(len(X), n_unlabeled, *sizes)
    steps = sum(stage.steps for stage in stages)
    logger.info("no unlabelled image was seen in training: %d steps of adversarial rounds on the pool", steps)
    return estimator.trained_further(stages, X, y, pool)
