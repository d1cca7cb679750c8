"""A detector that another library has trained, as an estimator to query."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch

from .detectors.network import DetectionNetwork
from .detectors.whole_model import ForeignModel
from .devices import chosen_device
from .errors import ConfigError, shown
from .fitted import FittedDetector
from .parameters import Count, Names, Natural, Whole, check_arguments


class ForeignDetector(FittedDetector):
    """A model of another library that is fitted already: `predict`, `score`, `transform`, `map_pool`, and queries.

    Every strategy that looks at detections and embeddings alone can ask it: random, entropy, core-set, those of
    scikit-activeml. It does not know what it was trained on: query with ``labeled=X``.

    Parameters
    ----------
    model : ForeignModel
        The adapter around the model.
    classes : sequence of str
        Class names in label order.
    score_batch_size, num_workers, device, verbose
        As in `ObjectDetector`.

    Attributes
    ----------
    classes_ : ndarray of str, (C,)
    network_ : DetectionNetwork
    """

    cache, precision, devices = None, "float32", 1

    def __init__(
        self,
        model: ForeignModel,
        classes: Annotated[Sequence, Names()],
        *,
        score_batch_size: Count = 8,
        num_workers: Annotated[int, Whole(0, 256)] = 0,
        device: str | torch.device = "auto",
        verbose: bool | Natural = 0,
    ):
        self.model = model
        self.classes = classes
        self.score_batch_size = score_batch_size
        self.num_workers = num_workers
        self.device = device
        self.verbose = verbose

    def fit(self, X, y, unlabeled=None):
        """Refuse: the model is trained where it comes from."""
        raise ConfigError(f"{type(self.model).__name__} is trained elsewhere; train it there and give the new model")

    def save(self, path) -> None:
        """Refuse: the model is saved where it comes from."""
        raise ConfigError(f"{type(self.model).__name__} is of another library; save it with that one")

    @property
    def classes_(self) -> np.ndarray:
        """The class names in label order."""
        return np.array([str(name) for name in self.classes])

    @property
    def network_(self) -> DetectionNetwork:
        """What passes over images call."""
        self._check_parameters()
        return DetectionNetwork(self.model).to(chosen_device(self.device)).eval()

    def _check_parameters(self) -> None:
        check_arguments(type(self), self.get_params(deep=False))
        if self.model.num_classes != len(self.classes):
            raise ConfigError(
                f"classes: {shown(self.classes)} are {len(self.classes)}, but the model knows {self.model.num_classes};"
                " give a name for each label"
            )
