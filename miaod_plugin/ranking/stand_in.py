"""What strategies are given in place of a detector, to ask it in another way."""

import numpy as np

from ..estimator import ObjectDetector


class StandIn:
    """Is the fitted detector but for its passes over a pool, all of which go through the `map_pool` of a subclass."""

    def __init__(self, estimator: ObjectDetector):
        self.estimator = estimator

    def __getattr__(self, name: str):
        return getattr(self.estimator, name)

    def predict(self, X) -> np.ndarray:
        """Detect objects by way of `map_pool`."""
        return type(self.estimator).predict(self, X)

    def transform(self, X) -> np.ndarray:
        """Return embeddings by way of `map_pool`."""
        return type(self.estimator).transform(self, X)
