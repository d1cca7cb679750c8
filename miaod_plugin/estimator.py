"""A supervised object detector as a scikit-learn estimator."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Annotated, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from . import model_file
from .data import check_targets
from .data.image_sets import check_annotated_images, check_images, images_like
from .detectors.base import Detector
from .detectors.network import DetectionNetwork
from .errors import ConfigError, DataError, did_you_mean, shown
from .metrics import voc_average_precision
from .parameters import Count, Names, Natural, NonNegative, Number, Probability, RandomState, Whole, check_arguments
from .pool import map_batches, stack_rows, warn_of_size
from .progress import Progress
from .randomness import seed_of, seeded
from .registry import DETECTORS, find
from .rollback import unchanged_if_it_fails
from .training.batches import TrainingImages
from .training.checkpoint import Checkpoint
from .training.identity import training_identity
from .training.loop import Round, Settings, plan_rounds, train


class ObjectDetector(BaseEstimator):
    """Train a detector on annotated images, detect objects, and describe a pool of images to a query strategy.

    Parameters
    ----------
    detector : str or callable
        A registered detector's name, ``"torchvision:NAME"`` for a model of torchvision's as it is (supervised only), or
        a callable ``(num_classes, **detector_options) -> Detector``.
    classes : sequence of str, optional
        Class names in label order. Without it, the classes are numbered up to the largest label given to `fit`.
    detector_options : dict, optional
        Keyword arguments of the detector, such as ``{"min_size": 320, "weights": None}``.
    epochs : int
        Passes over the labelled images; the default is what MI-AOD's schedule for VOC makes of them.
    max_steps : int, optional
        Exactly this many optimiser steps; when left out, as many as the passes over the images come to.
    batch_size : int
        Images in a step; fewer when fewer are labelled.
    optimizer : {"sgd", "adamw"}
        Stochastic gradient descent with momentum, as in section 4.1 of the paper, or AdamW, for small networks that
        train from scratch.
    learning_rate : float
        Of the optimiser; the default is the paper's.
    momentum : float
        Of the optimiser, for AdamW its first beta; the default is the paper's.
    weight_decay : float
        Of the optimiser; the default is the paper's.
    warmup_steps : int
        Steps in which the learning rate rises linearly from near zero.
    drop_at : float
        Share of all steps after which the learning rate is divided by ten.
    max_grad_norm : float, optional
        Scale gradients down to this L2 norm.
    augmentation : {"flip", "ssd"}
        Mirror training images, or first distort their colours, expand and crop them, as SSD does.
    horizontal_flip : float
        Probability of mirroring a training image.
    score_batch_size : int
        Images at a time in `predict`, `score`, `transform` and `map_pool`.
    num_workers : int
        Processes that read images; 0 reads them in this one.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ..., or ``"auto"``: a GPU if there is one.
    random_state : int or None
        Seed of the training. The same seed gives bit-identical results on a CPU.
    checkpoint : path, optional
        File in which a training leaves its state every `checkpoint_seconds`. If it exists, the same `fit` (same images,
        targets, parameters and first weights) goes on from it, another one starts over; it is deleted when the training
        is done. A file that is damaged or something else is an error.
    checkpoint_seconds : float
        Seconds from one state of a half-trained fit on disk to the next.
    on_step : callable, optional
        Called after each optimiser step with ``{"step", "total", "round", "losses"}``.
    verbose : int
        Print how far `fit` and passes over a pool are: nothing at 0, a line now and then at 1, each step at 2.

    Attributes
    ----------
    classes_ : ndarray of str, (C,)
    network_ : DetectionNetwork
    losses_ : dict of float
        Mean of each loss over the last round of training.
    n_steps_ : int
        Optimiser steps of the last `fit`.
    X_labeled_, y_labeled_ : ndarray
        The annotated images of the last `fit`.
    n_unlabeled_ : int
        Unlabelled images that the last `fit` learned from.

    Examples
    --------
    >>> from miaod_plugin import ObjectDetector
    >>> from miaod_plugin.data import make_digit_scenes
    >>> data = make_digit_scenes(8, random_state=0)
    >>> detector = ObjectDetector("retinanet_tiny", classes=data.classes, max_steps=2, random_state=0)
    >>> detector.fit(data.X, data.y).predict(data.X[:1]).shape
    (1,)
    """

    def __init__(
        self,
        detector: str | Callable = "retinanet_resnet50_fpn",
        classes: Annotated[Sequence, Names()] | None = None,
        *,
        detector_options: Mapping | None = None,
        epochs: Count = 26,
        max_steps: Count | None = None,
        batch_size: Count = 2,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        learning_rate: NonNegative = 1e-3,
        momentum: Annotated[float, Number(0, 1, below=True)] = 0.9,
        weight_decay: NonNegative = 5e-4,
        warmup_steps: Natural = 0,
        drop_at: NonNegative = 0.94,
        max_grad_norm: NonNegative | None = None,
        augmentation: Literal["flip", "ssd"] = "flip",
        horizontal_flip: Probability = 0.5,
        score_batch_size: Count = 8,
        num_workers: Annotated[int, Whole(0, 256)] = 0,
        device: str | torch.device = "auto",
        random_state: RandomState = None,
        checkpoint: str | PathLike | None = None,
        checkpoint_seconds: NonNegative = 60.0,
        on_step: Callable[[dict], None] | None = None,
        verbose: bool | Natural = 0,
    ):
        self.detector = detector
        self.classes = classes
        self.detector_options = detector_options
        self.epochs = epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.drop_at = drop_at
        self.max_grad_norm = max_grad_norm
        self.augmentation = augmentation
        self.horizontal_flip = horizontal_flip
        self.score_batch_size = score_batch_size
        self.num_workers = num_workers
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.on_step = on_step
        self.verbose = verbose

    def fit(self, X, y, unlabeled=None):
        """Train from the backbone weights on the annotated images.

        A training that fails or is stopped leaves the detector as it was before.

        Parameters
        ----------
        X : ndarray
            ``(n,)`` image paths, or ``(n, H, W, 3)`` uint8 images.
        y : ndarray of object, (n,)
            A target per image, ``None`` for an unlabelled one; see `DetectionData`.
        unlabeled : ndarray, optional
            More unlabelled images, in the form of `X`. A supervised detector has no use for them.

        Raises
        ------
        DataError
            If the images or targets are not of this form, or none is annotated.
        ConfigError
            If a parameter is not allowed.
        """
        with unchanged_if_it_fails(self):
            X, y, unlabeled = self._check_training_data(X, y, unlabeled)
            seed = seed_of(self.random_state)
            unlabeled = self._choose_unlabeled(unlabeled, len(X), seed)
            with seeded(seed):
                self.network_ = self._build_network().to(self._device(), memory_format=torch.channels_last)
            warn_of_size(self.network_, X)
            self._train(X, y, unlabeled, self._rounds(len(X), len(unlabeled)), seed)
        return self

    def total_steps(self, n_labeled: int, n_unlabeled: int = 0) -> int:
        """Return how many optimiser steps `fit` takes with so many annotated and unlabelled images."""
        self._check_parameters()
        return sum(stage.steps for stage in self._rounds(n_labeled, n_unlabeled))

    def predict(self, X) -> np.ndarray:
        """Detect objects: an object array of dicts ``boxes`` (m, 4), ``labels`` (m,), ``scores`` (m,), best first.

        Most detectors also tell in ``instances`` (m,) which of their instances each came from; see `Detector`.
        """
        return self.map_pool(X, {"detections": lambda outputs: outputs.detections})["detections"]

    def score(self, X, y) -> float:
        """Return the mean average precision at IoU 0.5, 11-point as in PASCAL VOC 2007, in 0..1."""
        check_is_fitted(self, "network_")
        check_targets(y, len(self.classes_))
        return voc_average_precision(self.predict(X), y, len(self.classes_))["map"]

    def transform(self, X) -> np.ndarray:
        """Return an embedding of each image, float32 ``(n, d)``: the average of each of the detector's feature maps."""
        return self.map_pool(X, {"embeddings": lambda outputs: outputs.embeddings})["embeddings"]

    def map_pool(
        self,
        X,
        reducers: Mapping[str, Callable[..., object]],
        y=None,
        views: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> dict[str, np.ndarray]:
        """Pass the images through the network once, batch by batch, and feed every reducer.

        Parameters
        ----------
        X : ndarray
            ``(n,)`` image paths, or ``(n, H, W, 3)`` uint8 images.
        reducers : dict of callables
            Each gets the `InstanceOutputs` of a batch and returns a row per image: a tensor ``(B, ...)``, or a list.
        y : ndarray of object, (n,), optional
            A target for each image; `InstanceOutputs.losses` are then there.
        views : sequence of callables, optional
            Ways to see an image, mirrored or scaled, say: uint8 tensor ``(3, H, W)`` -> another one. A reducer then
            gets the outputs of the same images in each view, one after the other: ``reducer(first, second)`` of two.

        Returns
        -------
        dict of ndarray
            For each reducer an array ``(n, ...)``; lists give an object array ``(n,)``.
        """
        X, parts, order = check_images(X), {name: [] for name in reducers}, []
        progress = Progress(type(self).__name__, self.verbose)
        for indices, rows in self.map_batches(X, reducers, y=y, views=views):
            for name, part in rows.items():
                parts[name].append(part)
            order.extend(indices)
            progress.show(len(order), len(X), "images")
        return {name: stack_rows(part)[np.argsort(order)] for name, part in parts.items()}

    def map_batches(
        self,
        X,
        reducers: Mapping[str, Callable],
        on_broken: Callable[[int, DataError], None] | None = None,
        *,
        y=None,
        views: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> Iterator[tuple[np.ndarray, dict]]:
        """Yield what `map_pool` stacks, batch by batch, so that a long pass can be shown, stopped and gone on with.

        Parameters
        ----------
        X, reducers, y, views
            As in `map_pool`.
        on_broken : callable, optional
            Called with the row of an image that cannot be read, and the error; the image is left out. Without it the
            error is raised.

        Yields
        ------
        indices : ndarray of int64, (b,)
            Rows of X, whose images are padded alike; not in order where X holds images of several shapes.
        rows : dict
            What each reducer made of them.
        """
        check_is_fitted(self, "network_")
        self._check_parameters()
        X = check_images(X)
        if y is not None:
            X, y = check_annotated_images(X, y)
            if unlabelled := [row for row, target in enumerate(y) if target is None]:
                raise DataError(f"y[{unlabelled[0]}] is None; give a target for each image, or no y")
            check_targets(y, len(self.classes_))
        warn_of_size(self.network_, X)
        return map_batches(self.network_, X, reducers, self.score_batch_size, self.num_workers, on_broken, y, views)

    def save(self, path) -> None:
        """Write the fitted detector to one safetensors file: weights as tensors, configuration as JSON.

        A detector that is there is replaced. Tuples among the parameters come back as such; of NumPy's values and paths
        the plain numbers, lists and strings do.

        Raises
        ------
        DataError
            If there is something else at `path`.
        ConfigError
            If a parameter has no form in JSON.
        """
        check_is_fitted(self, "network_")
        model_file.save(self, path)

    @classmethod
    def load(cls, path, detector: Callable | None = None, device: str = "auto") -> "ObjectDetector":
        """Read a detector of this class, or one derived from it, that `save` wrote; runs no code from the file.

        Parameters
        ----------
        path : path
        detector : callable, optional
            The detector's factory, if it is not a registered one.
        device : str
            As in the constructor; a file does not say on which device its detector is to work.

        Raises
        ------
        DataError
            If the file is missing, damaged, or of another estimator class, or its weights do not fit its parameters.
        """
        return model_file.load(cls, path, detector, device)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "detector"
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.no_validation = True
        return tags

    def _rounds(self, n_labeled: int, n_unlabeled: int) -> list[Round]:
        return plan_rounds([("label", self.epochs)], n_labeled, self.batch_size, self.max_steps)

    def _options(self):
        return None

    def _choose_unlabeled(self, unlabeled: np.ndarray, n_labeled: int, seed: int) -> np.ndarray:
        return unlabeled[:0]

    def detector_factory(self) -> Callable:
        """Return the callable ``(num_classes, **detector_options) -> Detector`` that `detector` stands for."""
        if isinstance(self.detector, torch.nn.Module):
            raise ConfigError(
                f"detector: a {type(self.detector).__name__} is a network; give a function (num_classes, **options)"
                " that builds a Detector, or 'torchvision:NAME' for a model of torchvision's"
            )
        return find(DETECTORS, self.detector) if isinstance(self.detector, str) else self.detector

    def _build_network(self) -> DetectionNetwork:
        factory = self.detector_factory()
        known = inspect.signature(factory).parameters
        for name in self.detector_options or {}:
            if name not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
                options = set(known) - {"num_classes"}
                known = did_you_mean(name, options)
                raise ConfigError(f"detector_options: {shown(self.detector)} has no {shown(name)}{known}")
        detector = factory(len(self.classes_), **(self.detector_options or {}))
        if not isinstance(detector, Detector):
            raise ConfigError(
                f"detector: {shown(self.detector)} builds a {type(detector).__name__}, which is no Detector;"
                " put a model with torchvision's interface into a TorchvisionDetector"
            )
        return DetectionNetwork(detector, **self._network_options())

    def _network_options(self) -> dict:
        return {}

    def _train(self, X, y, unlabeled, rounds: list[Round], seed: int) -> None:
        names = Settings.__dataclass_fields__
        settings = Settings(**{name: value for name, value in self.get_params(deep=False).items() if name in names})
        if self.verbose:
            settings = replace(settings, on_step=self._told(settings.on_step))
        images = TrainingImages(X, y, unlabeled)
        checkpoint = None
        if self.checkpoint is not None:
            identity = training_identity(self, rounds, images, seed)
            checkpoint = Checkpoint(self.checkpoint, self.checkpoint_seconds, identity)
        self.losses_ = train(self.network_, rounds, images, settings, self._options(), seed, checkpoint)
        self.n_steps_ = sum(stage.steps for stage in rounds)
        self.X_labeled_, self.y_labeled_, self.n_unlabeled_ = X, y, len(unlabeled)

    def _told(self, on_step: Callable[[dict], None] | None) -> Callable[[dict], None]:
        """Return an `on_step` that prints, and calls the given one."""
        progress = Progress(type(self).__name__, self.verbose)

        def tell(report: dict) -> None:
            losses = ", ".join(f"{name} {value:.3g}" for name, value in report["losses"].items())
            progress.show(report["step"], report["total"], "steps", f"{report['round']}: {losses}")
            if on_step:
                on_step(report)

        return tell

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except (RuntimeError, TypeError):
            device = None
        if device is None or device.type not in ("cpu", "cuda"):
            raise ConfigError(f"device: {shown(self.device)} is not known; give 'auto', 'cpu', 'cuda', 'cuda:1', ...")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            there = torch.cuda.device_count() or "no"
            raise ConfigError(f"device: {shown(self.device)} is not there ({there} GPUs are); give 'auto' or 'cpu'")
        return device

    def _check_training_data(self, X, y, unlabeled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Check parameters and data, set `classes_`, and return the annotated images, their targets and the others."""
        self._check_parameters()
        X, y = check_annotated_images(X, y)
        labeled = np.array([target is not None for target in y], dtype=bool)
        if not labeled.any():
            raise DataError("y: every target is None; at least one image must be annotated")
        check_targets(y, len(self.classes) if self.classes is not None else np.iinfo(np.int64).max)
        if self.classes is None:
            most = max((int(target["labels"].max()) for target in y[labeled] if len(target["labels"])), default=0)
            self.classes_ = np.array([str(label) for label in range(most + 1)])
        else:
            self.classes_ = np.array([str(name) for name in self.classes])
        others = X[~labeled]
        if unlabeled is not None:
            others = np.concatenate([others, images_like(X, unlabeled, "unlabeled")])
        return X[labeled], y[labeled], others

    def _check_parameters(self) -> None:
        check_arguments(type(self), self.get_params(deep=False))
