"""An object detector as a scikit-learn estimator."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Annotated, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from . import model_file
from .data.image_sets import check_images
from .detectors.factory import build_detector, without_weights
from .detectors.network import DetectionNetwork
from .detectors.precision import computing_in, set_precision
from .detectors.starting_weights import StartingWeights
from .devices import chosen_device
from .distributed.group import ALONE, Group, group_of
from .distributed.ranks import run
from .errors import ConfigError, cut_list
from .fitted import FittedDetector
from .parameters import Count, Names, Natural, NonNegative, Number, Probability, RandomState, Whole, check_arguments
from .pool import warn_of_size
from .progress import telling
from .randomness import seed_of, seeded
from .rollback import unchanged_if_it_fails
from .training.average import averaged, with_average
from .training.base import Stage, Training
from .training.batches import TrainingImages
from .training.checkpoint import Checkpoint
from .training.data import as_many, check_training_data
from .training.identity import training_identity
from .training.loop import Settings, train
from .training.supervised import Supervised


class ObjectDetector(FittedDetector):
    """Train a detector on annotated images, detect objects, and describe a pool of images to a query strategy.

    Parameters
    ----------
    detector : str or callable
        A registered detector's name, ``"torchvision:NAME"`` for a model of torchvision's as it is (supervised only), or
        a callable ``(num_classes, **detector_options) -> Detector``.
    classes : sequence of str, optional
        Class names in label order. Without it, the classes are numbered up to the largest label given to `fit`.
    detector_options : dict, optional
        Keyword arguments of the detector, such as ``{"min_size": 320, "weights": "COCO_V1"}``.
    training : Training, optional
        How it is trained, such as ``MIAOD(rounds=1)``; when left out, `Supervised`. One that learns from unlabelled
        images too gets all of them, or unless `whole_pool` says so a random subset as large as the labelled set.
    max_steps : int, optional
        Exactly this many optimiser steps; when left out, as many as the training's plan has.
    batch_size : int
        Images in a step; fewer when fewer are labelled.
    micro_batch_size : int, optional
        At most so many of a step's images at a time, whose gradients are added up: a large batch in the memory of a
        small one. A step is that of the whole batch up to rounding where losses are means or sums over its images, as
        RetinaNet's and MI-AOD's are, images are of one size, and BatchNorm is not trained. Of losses that are divided
        by a batch's positives (FCOS, SSD, ``positives_of="batch"``), samples (Faster R-CNN) or objects that a teacher
        sees, and of pseudo labels that count for whole batches (``faithful``), it takes the mean over the parts.
    group_by_aspect : bool
        Let a training batch hold images that are wider than high, or others, so that less of it is padding; where there
        are fewer of a kind than a batch has, all may mix. Those that fill no batch at the end of a pass over the images
        begin the next one. It needs the sizes of all images, which it reads from the files' headers.
    optimizer : {"sgd", "adamw"}
        Stochastic gradient descent with momentum, as in section 4.1 of the paper, or AdamW, for small networks that
        train from scratch.
    learning_rate : float
        Of the optimiser; the default is the paper's, for two images in a step. With more it is usually raised in
        proportion, after a warm-up (linear scaling rule: Goyal et al., arXiv 1706.02677).
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
    cache : path, optional
        File in which image files are kept decoded, for every process and detector that reads the same ones; see
        `PixelCache`. It may be deleted at any time. A run of an experiment has one in its folder while it goes on.
    cache_bytes : int
        Bytes of images that are kept decoded, at most; those beyond, or for which the disk has no room, are decoded
        each time.
    warm_start : bool
        Let `fit` go on from the network of the fit before, which then has to know the same classes, rather than begin
        anew.
    precision : {"float32", "tf32", "bf16"}
        Compute backbones and the convolutions of heads in bfloat16, several times as fast on GPUs and on CPUs with AMX,
        in training and afterwards. Parameters, the last layers, anchors and losses are float32 in any case. With
        ``"tf32"`` convolutions and products of matrices on a GPU round what they multiply to 10 bits, while `fit` or a
        pass goes on; a CPU computes in float32. With ``"float32"`` a GPU does what torch is set to, which by default is
        TF32 for convolutions alone.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ..., or ``"auto"``: a GPU if there is one.
    devices : int
        Processes that share each training and each pass over a pool, on a GPU each, or on a CPU, until Python ends;
        under torchrun those it started, in each of which the same script runs, with an int as `random_state`. A step is
        that of one process up to rounding, its batch, augmentation, padding and BatchNorm shared; but a model
        ``"torchvision:..."`` pads and samples each part by itself, and `MeanTeacher` draws others for several sizes.
    random_state : int or None
        Seed of the training. The same seed gives bit-identical results on a CPU.
    checkpoint : path, optional
        File in which a training leaves its state every `checkpoint_seconds`. If it exists, the same `fit` (same images,
        targets, parameters and first weights) goes on from it, another one starts over; it is deleted when the training
        is done. A file that is damaged or something else is an error.
    checkpoint_seconds : float
        Seconds from one state of a half-trained fit on disk to the next.
    on_step : callable, optional
        Called after each optimiser step with ``{"step", "total", "round", "losses"}``, the round being
        the kind of the stage; on a GPU after every 20 steps, for each of them.
    verbose : int
        Print how far `fit` and passes over a pool are: nothing at 0, a line now and then at 1, each step at 2.

    Attributes
    ----------
    training_ : Training
        What `training` comes to, also before `fit`.
    classes_ : ndarray of str, (C,)
    network_ : DetectionNetwork
    losses_ : dict of float
        Mean of each loss over the last stage of training.
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
        training: Training | None = None,
        max_steps: Count | None = None,
        batch_size: Count = 2,
        micro_batch_size: Count | None = None,
        group_by_aspect: bool = False,
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
        cache: str | PathLike | None = None,
        cache_bytes: Annotated[int, Whole(0, 2**60)] = 4_000_000_000,
        warm_start: bool = False,
        precision: Literal["float32", "tf32", "bf16"] = "float32",
        device: str | torch.device = "auto",
        devices: Annotated[int, Whole(1, 4096)] = 1,
        random_state: RandomState = None,
        checkpoint: str | PathLike | None = None,
        checkpoint_seconds: NonNegative = 60.0,
        on_step: Callable[[dict], None] | None = None,
        verbose: bool | Natural = 0,
    ):
        self.detector = detector
        self.classes = classes
        self.detector_options = detector_options
        self.training = training
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.group_by_aspect = group_by_aspect
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
        self.cache = cache
        self.cache_bytes = cache_bytes
        self.warm_start = warm_start
        self.precision = precision
        self.device = device
        self.devices = devices
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.on_step = on_step
        self.verbose = verbose

    def fit(self, X, y, unlabeled=None):
        """Train on the annotated images, from the detector's first weights or, with `warm_start`, from those it has.

        A training that fails or is stopped leaves the detector as it was before.

        Parameters
        ----------
        X : ndarray
            ``(n,)`` image paths, or ``(n, H, W, 3)`` uint8 images.
        y : ndarray of object, (n,)
            A target per image, ``None`` for an unlabelled one; see `DetectionData`.
        unlabeled : ndarray, optional
            More unlabelled images, in the form of `X`. A supervised training has no use for them.

        Raises
        ------
        DataError
            If the images or targets are not of this form, or none is annotated.
        ConfigError
            If a parameter is not allowed.
        """
        with unchanged_if_it_fails(self):
            self._check_parameters()
            data = check_training_data(X, y, unlabeled, self.classes)
            before = self._weights_to_go_on_from(data.classes) if self.warm_start else None
            group = group_of(self.devices) or ALONE
            self.classes_, seed = data.classes, group.from_first(lambda: seed_of(self.random_state))
            unlabeled = data.unlabeled[:0]
            if self.training_.uses_unlabeled:
                unlabeled = self._learned_from(data.unlabeled, len(data.X), seed)
            self.network_ = self._new_network(seed, before)
            warn_of_size(self.network_, data.X)
            self._train(data.X, data.y, unlabeled, self._stages(len(data.X), len(unlabeled)), seed)
        return self

    def untrained(self) -> "ObjectDetector":
        """Return a copy with the network that `fit` begins with, for its embeddings.

        Where it begins with a backbone's weights its heads are random, and what it detects means nothing.
        """
        self._check_parameters()
        begun = type(self)(**self.get_params(deep=False))
        begun.classes_ = np.array([str(name) for name in (range(1) if self.classes is None else self.classes)])
        begun.network_ = begun._new_network(seed_of(self.random_state))
        return begun

    def trained_further(self, stages: list[Stage], X, y, unlabeled) -> "ObjectDetector":
        """Return a copy that went on through more stages of its training; the detector itself does not change.

        Parameters
        ----------
        stages : list of Stage
        X, y : ndarray
            Annotated images and their targets.
        unlabeled : ndarray
            By default a random subset as large as the annotated set is used.
        """
        check_is_fitted(self, "network_")
        further, seed = copy.copy(self), seed_of(self.random_state)
        further.network_ = copy.deepcopy(self.network_)
        further.checkpoint = further.on_step = None
        further._train(X, y, self._learned_from(check_images(unlabeled), len(X), seed), stages, seed)
        return further

    def total_steps(self, n_labeled: int, n_unlabeled: int = 0) -> int:
        """Return how many optimiser steps `fit` takes with so many annotated and unlabelled images."""
        self._check_parameters()
        return sum(stage.steps for stage in self._stages(n_labeled, n_unlabeled))

    @classmethod
    def load(
        cls, path, detector: Callable | None = None, device: str = "auto", training: Training | None = None
    ) -> "ObjectDetector":
        """Read a detector of this class, or one derived from it, that `save` wrote; runs no code from the file.

        Parameters
        ----------
        path : path
        detector : callable, optional
            The detector's factory, if it is not a registered one.
        device : str
            As in the constructor; a file does not say on which device its detector is to work.
        training : Training, optional
            How it was trained, if that is of a class that is not registered.

        Raises
        ------
        DataError
            If the file is missing, damaged, or of another estimator class, or its weights do not fit its parameters.
        """
        return model_file.load(cls, path, detector, device, training)

    @property
    def training_(self) -> Training:
        """What `training` comes to."""
        return Supervised() if self.training is None else self.training

    def _learned_from(self, unlabeled: np.ndarray, n_labeled: int, seed: int) -> np.ndarray:
        """Return the unlabelled images that the training gets."""
        return unlabeled if self.training_.whole_pool else as_many(unlabeled, n_labeled, seed)

    def _stages(self, n_labeled: int, n_unlabeled: int) -> list[Stage]:
        n_unlabeled = n_unlabeled if self.training_.uses_unlabeled else 0
        return self.training_.plan(n_labeled, n_unlabeled, self.batch_size, self.max_steps)

    def _weights_to_go_on_from(self, classes: np.ndarray) -> StartingWeights | None:
        """Return the weights of the last fit, if there was one."""
        if not hasattr(self, "network_"):
            return None
        if classes.tolist() != self.classes_.tolist():
            raise ConfigError(
                f"warm_start: the classes are now {cut_list(classes)}, and were {cut_list(self.classes_)}; give all of"
                " them as `classes` from the first fit on, or save() the detector and start from that file's weights"
            )
        return StartingWeights("warm_start: the network so far", self.network_.state_dict(), self.classes_.tolist())

    def _new_network(self, seed: int, before: StartingWeights | None = None) -> DetectionNetwork:
        device = chosen_device(self.device, self.devices)
        with seeded(seed):
            return self._build_network(before).to(device, memory_format=torch.channels_last)

    def _build_network(self, before: StartingWeights | None = None) -> DetectionNetwork:
        """Return the network with the weights that a training begins with, `before` if they are given."""
        options = without_weights(self.detector, self.detector_options) if before else self.detector_options
        detector = build_detector(self.detector, options, len(self.classes_))
        network = self.training_.build(detector)
        weights = before or detector.starting_weights
        if weights is not None:
            weights.fill(network, self.classes_.tolist())
            detector.starting_weights = None  # frees their memory
        set_precision(network, self.precision)
        return network

    def _train(self, X, y, unlabeled, stages: list[Stage], seed: int) -> None:
        names = Settings.__dataclass_fields__
        settings = Settings(**{name: value for name, value in self.get_params(deep=False).items() if name in names})
        if self.verbose:
            settings = replace(settings, on_step=telling(type(self).__name__, self.verbose, settings.on_step))
        if (group := group_of(self.devices)) is None:
            self._train_apart(X, y, unlabeled, stages, seed, settings.on_step)
        else:
            self._train_in(group, TrainingImages(X, y, unlabeled, self._read), stages, settings, seed)
        self.n_steps_ = sum(stage.steps for stage in stages)
        self.X_labeled_, self.y_labeled_, self.n_unlabeled_ = X, y, len(unlabeled)

    def _train_in(self, group: Group, images: TrainingImages, stages: list[Stage], settings: Settings, seed: int):
        checkpoint = None
        if self.checkpoint is not None:
            identity = {} if group.rank else training_identity(self, stages, images, seed)
            checkpoint = Checkpoint(self.checkpoint, self.checkpoint_seconds, identity)
        network = with_average(self.network_) if self.training_.average else self.network_
        with computing_in(self.precision):
            self.losses_ = train(self.training_, network, stages, images, settings, seed, checkpoint, group)
        self.network_ = averaged(network) if self.training_.average else network

    def _train_apart(self, X, y, unlabeled, stages: list[Stage], seed: int, on_step: Callable | None) -> None:
        """Let processes of their own train, one for each device, and take over what they have learned."""
        job = partial(_train_as_one_of_many, self._apart(), X, y, unlabeled, stages, seed)
        with closing(run(job, self.devices, self.device)) as told:  # closed at once if on_step raises
            for event, trained in told:
                if event is None:
                    weights, self.losses_ = trained
                elif on_step:
                    on_step(event)
        self.network_.load_state_dict(weights)
        self.network_.eval()

    def _check_parameters(self) -> None:
        check_arguments(type(self), self.get_params(deep=False))
        self.training_.check()


def _train_as_one_of_many(
    detector: ObjectDetector, X, y, unlabeled, stages: list[Stage], seed: int, send: Callable
) -> None:
    """Train in one of the processes that share it; the first sends each step, and in the end what was learned."""
    detector.network_.to(group_of(detector.devices).device, memory_format=torch.channels_last)
    detector.on_step = lambda event: send((event, None))
    detector._train(X, y, unlabeled, stages, seed)
    weights = {name: tensor.cpu() for name, tensor in detector.network_.state_dict().items()}
    send((None, (weights, detector.losses_)))
