"""Parameters of estimators, strategies, detectors and digit scenes."""

import inspect
import logging
from pathlib import Path
from random import Random

import numpy as np
import torch
from cases import Case
from damage import NASTY
from sane import sane_detections

from miaod_plugin import MIAOD, MIAODDetector, ObjectDetector, strategies
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.registry import DETECTORS, find, registered

from .targets import SIDE, SMALL

VALUES = (
    *NASTY,
    *(np.int64(1), np.float32(0.5), np.array([1, 2]), np.array(3), np.nan, 0.5, 2, 1e-3, 1 - 1e-12, 2**31, 2**32),
    *(torch.device("cpu"), torch.device("meta"), "meta", "cuda:99", "mps", "cuda:-1", "cpu:7", torch.nn.Identity()),
    *(
        object,
        print,
        lambda *_: None,
        ("a", "b", "c"),
        ("a", "a", "b"),
        [1, 2, 3],
        range(3),
        {"a", "b"},
        b"x",
        Path("x"),
    ),
    *(
        "sgd",
        "faithful",
        "image",
        "torchvision:x",
        "torchvision:retinanet_resnet50_fpn",
        "retinanet_tinny",
        "detections",
    ),
    *({"width": 0}, {"width": "x"}, {"min_size": -1}, {"weights": "x"}, {"num_classes": 3}, {"top_k": 5.5}, {"x": 1}),
    *({"fpn_channels": 8}, {1: 2}, np.random.default_rng(0), np.random.RandomState(0)),
)
PLAUSIBLE = {
    "detector": ("retinanet_tiny",),
    "classes": (("a", "b", "c"), ["x", 1, 2], np.array(["a", "b", "c", "d"])),
    "detector_options": (None, {}, {"width": 8}),
    "max_steps": (1, 3, None),
    "batch_size": (1, 3, 100, np.int32(2)),
    "optimizer": ("sgd", "adamw"),
    "learning_rate": (0, 1e-4, np.float32(0.01), 1e10),
    "momentum": (0, 0.5),
    "weight_decay": (0, 1e-3),
    "warmup_steps": (0, 10, 10**6),
    "drop_at": (0, 1, 5.0),
    "max_grad_norm": (None, 1e-9, 35),
    "augmentation": ("flip", "ssd"),
    "horizontal_flip": (0, 1),
    "score_batch_size": (1, 10**6),
    "device": ("auto", torch.device("cpu")),
    "random_state": (None, 5, np.int64(7), np.random.RandomState(1)),
    "cache_bytes": (0, 10**6),
    "checkpoint_seconds": (0, 1e9),
    "mode": ("faithful", "improved"),
    "options": ({"top_k": 5}, {"top_k": 0.5}, {"attention": "level", "softmax": "everywhere"}),
}
STRATEGIES = tuple(getattr(strategies, name) for name in strategies.__all__)
SCENES = inspect.signature(make_digit_scenes).parameters
LIGHT = ("retinanet_tiny", "ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")


class Enough(Exception):
    """The training goes on, and that is all a case wants to know."""


class Family:
    def __init__(self, folder: Path):
        self.data = make_digit_scenes(6, image_size=SIDE, object_size=(8, 16), n_classes=3, random_state=0)
        self.fitted = MIAODDetector(**SMALL, classes=self.data.classes, random_state=0)
        self.fitted.fit(self.data.X[:4], self.data.y[:4])
        logging.disable(logging.CRITICAL)

    def case(self, rng: Random, folder: Path) -> Case:
        kind = rng.choice(("estimator", "estimator", "estimator", "options", "strategy", "scenes", "detector"))
        if kind in ("estimator", "options"):
            cls = rng.choice((ObjectDetector, MIAODDetector)) if kind == "estimator" else MIAODDetector
            known = [name for name in cls().get_params(deep=False) if name not in ("verbose", "training")]
            known += [name for name in inspect.signature(MIAOD).parameters if cls is MIAODDetector]
            options = ("mode", "options") if kind == "options" else known
            names = rng.sample(options, min(len(options), rng.choice((1, 1, 2, 3))))
            given = {name: self._value(rng, name) for name in names}
            return Case(
                f"{cls.__name__} {given!r:.150}",
                lambda: self._fit(cls, given, folder),
                (*names, "learning_rate", "training"),
            )
        if kind == "strategy":
            cls = rng.choice(STRATEGIES)
            name = rng.choice(list(inspect.signature(cls).parameters))
            value = rng.choice(VALUES)
            return Case(f"{cls.__name__} {name}={value!r:.60}", lambda: self._query(cls(**{name: value})), (name,))
        if kind == "scenes":
            names = rng.sample(list(SCENES), rng.choice((1, 2)))
            given = {name: rng.choice(VALUES) for name in names}
            return Case(f"scenes {given!r:.100}", lambda: self._scenes(given), tuple(names))
        detector = rng.choice(LIGHT)
        known = list(inspect.signature(find(DETECTORS, detector)).parameters)[1:]
        name = rng.choice(known)
        given = {name: rng.choice(VALUES)}
        parameters = {
            "detector": detector,
            "detector_options": {"weights": None} | given if "weights" in known else given,
        }
        if (name == "weights" and given[name] is None) or detector not in registered(DETECTORS):
            parameters = {"detector": detector + "x"}
        return Case(
            f"{detector} {given!r:.80}", lambda: self._fit(ObjectDetector, parameters, folder), (name, detector)
        )

    def _value(self, rng: Random, name: str):
        values = VALUES
        if name == "num_workers":  # those that are allowed start processes
            values = [value for value in VALUES if not (isinstance(value, int | np.integer) and 0 < value <= 256)]
        return rng.choice(PLAUSIBLE[name] if name in PLAUSIBLE and rng.random() < 0.5 else values)

    def _fit(self, cls, given: dict, folder: Path) -> None:
        def stop(report: dict) -> None:
            if report["step"] >= 2:
                raise Enough

        checkpoint = folder / "half.safetensors"
        parameters = SMALL | {
            "classes": self.data.classes,
            "random_state": 0,
            "on_step": stop,
            "checkpoint": checkpoint,
        }
        if "detector" in given or "detector_options" in given:
            parameters["detector_options"] = None
        estimator = cls(**parameters | given)
        try:
            estimator.fit(self.data.X[:4], self.data.y[:4], unlabeled=self.data.X[4:])
        except Enough:
            return
        assert all(np.isfinite(loss) for loss in estimator.losses_.values())
        sane_detections(estimator.predict(self.data.X[:1]), [(SIDE, SIDE)], len(estimator.classes_))

    def _query(self, strategy) -> None:
        indices, utilities = strategy(self.fitted, self.data.X, n_instances=2)
        assert len(indices) == 2 and np.isfinite(utilities).all()

    def _scenes(self, given: dict) -> None:
        data = make_digit_scenes(**{"n_images": 2} | given)
        assert len(data) == given.get("n_images", 2) and data.X.dtype == np.uint8
