"""Images and targets in memory, as `fit`, `teach`, `score`, `predict`, `query` and the checks get them."""

import copy
from pathlib import Path
from random import Random

import numpy as np
import torch
from cases import Case
from damage import NASTY
from sane import sane_detections
from sklearn.exceptions import NotFittedError

from miaod_plugin import DetectionLearner, MIAODDetector, ObjectDetector
from miaod_plugin.baselines import RandomSampling
from miaod_plugin.data import check_targets, make_digit_scenes
from miaod_plugin.errors import MiaodError
from miaod_plugin.metrics import voc_average_precision
from miaod_plugin.strategies import MIAODSampling

SMALL = {
    "detector": "retinanet_tiny",
    "detector_options": {"width": 4, "fpn_channels": 8},
    "max_steps": 1,
    "device": "cpu",
}
SIDE = 32
FIELDS = {
    "boxes": (
        *NASTY,
        np.zeros((0, 4)),
        np.zeros((1, 4)),
        np.array([[0, 0, 9, 9]], dtype=object),
        np.array([[0, 0, 9, 9]], dtype=complex),
        np.array([["1", "2", "3", "4"]]),
        np.array([[0, 0, np.inf, 9]]),
        np.array([[-1e30, -1e30, 1e30, 1e30]]),
        np.array([[0, 0, 1e-30, 1e-30]]),
        np.array([[5, 5, 2, 2]]),
        np.array([[100, 100, 120, 120]]),
        np.zeros((1, 4, 1)),
        np.tile(np.array([[1, 1, 9, 9]], dtype=np.float32), (100_000, 1)),
        torch.tensor([[1.0, 1, 9, 9]]),
        [[1, 1, 9, 9], [1, 2]],
        np.ma.masked_array([[1, 1, 9, 9]], mask=[[1, 0, 0, 0]]),
    ),
    "labels": (
        *NASTY,
        np.array([0.0]),
        np.array([-1]),
        np.array([3]),
        np.array([10**9]),
        np.array([True]),
        np.array(["0"]),
        np.array([[0]]),
        np.array([0], dtype=object),
        np.array([0], dtype=np.uint64),
        np.array([2**63], dtype=np.uint64),
        np.zeros(100_000, dtype=np.int64),
        torch.tensor([0]),
    ),
    "difficult": (*NASTY, np.array([1]), np.array([True]), np.array(["no"]), np.array([0.5]), np.array([None])),
    "iscrowd": (*NASTY, np.array([1]), np.array([[True]])),
    "masks": (*NASTY,),
}
IMAGES = (
    *NASTY,
    np.zeros((4, SIDE, SIDE), np.uint8),
    np.zeros((4, SIDE, SIDE, 4), np.uint8),
    np.zeros((4, 3, SIDE, SIDE), np.uint8),
    np.zeros((4, SIDE, SIDE, 3), np.float32),
    np.zeros((4, 0, SIDE, 3), np.uint8),
    np.zeros((4, 1, 1, 3), np.uint8),
    np.zeros((0, SIDE, SIDE, 3), np.uint8),
    np.zeros((5, SIDE, SIDE, 3), np.uint8),
    np.array(["nowhere.jpg"] * 4),
    np.array(["a\nb", "", "..", "\ud800"]),
    np.array(["outside.txt"] * 4, dtype=object),
    np.array([b"a.jpg"] * 4),
    np.array([None] * 4),
    np.array(["nowhere.jpg"] * 4).reshape(2, 2),
    ["nowhere.jpg"] * 4,
    [np.zeros((SIDE, SIDE, 3), np.uint8)] * 4,
    [np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)] * 2,
    torch.zeros(4, 3, SIDE, SIDE, dtype=torch.uint8),
)
COUNTS = (*NASTY, 3, 100, np.int64(2), np.float64(2), True, [1], "2")


class Family:
    def __init__(self, folder: Path):
        self.data = make_digit_scenes(6, image_size=SIDE, object_size=(8, 16), n_classes=3, random_state=0)
        self.fitted = ObjectDetector(**SMALL, classes=self.data.classes, random_state=0)
        self.fitted.fit(self.data.X[:4], self.data.y[:4])

    def case(self, rng: Random, folder: Path) -> Case:
        X, y, pool = self.data.X[:4], [copy.deepcopy(target) for target in self.data.y[:4]], self.data.X[4:]
        kind = rng.choice(("field", "field", "field", "target", "list", "images", "unlabeled", "count", "not fitted"))
        names, refusals, count = ("y", "X", "targets", "image"), (MiaodError,), 1
        action = rng.choice((self._fit, self._fit_miaod, self._teach, self._score, self._check, self._metric))
        if kind == "field":
            key = rng.choice(list(FIELDS))
            y[rng.randrange(4)][key] = value = rng.choice(FIELDS[key])
            what = f"{key} {value!r:.60}"
        elif kind == "target":
            row, value = (
                rng.randrange(4),
                rng.choice((*NASTY, np.zeros(4), {"boxes": []}, {"boxes": None, "labels": None})),
            )
            y[row] = value
            what = f"{value!r:.60}"
        elif kind == "list":
            y = rng.choice((y[:3], y * 2, [], [None] * 4, tuple(y), iter(y), np.array(y).reshape(2, 2), *NASTY))
            what = f"y {type(y).__name__} {y!r:.40}"
        elif kind == "images":
            X, action = (
                rng.choice(IMAGES),
                rng.choice((self._fit, self._teach, self._predict, self._query, self._transform)),
            )
            what = f"X {type(X).__name__} {X!r:.60}"
        elif kind == "unlabeled":
            pool, action, names = rng.choice(IMAGES), self._fit_miaod, ("unlabeled", "X", "nowhere")
            what = f"{pool!r:.60}"
        elif kind == "count":
            count, action, names = rng.choice(COUNTS), self._query, ("n_instances",)
            what = f"{count!r:.60}"
        else:
            action, names, what, refusals = self._unfitted, ("fit", "trained"), "", (MiaodError, NotFittedError)
        return Case(
            f"{kind} {action.__name__[1:]}: {what}",
            lambda: action(X, y, pool, count),
            (*names, "nowhere", "outside.txt"),
            refusals,
        )

    def _fit(self, X, y, pool, count):
        estimator = ObjectDetector(**SMALL, classes=self.data.classes, random_state=0).fit(X, y)
        self._sane(estimator)

    def _fit_miaod(self, X, y, pool, count):
        options = {"label_epochs": 1, "rounds": 1}
        estimator = MIAODDetector(**SMALL | options, classes=self.data.classes, random_state=0).fit(
            X, y, unlabeled=pool
        )
        self._sane(estimator)

    def _teach(self, X, y, pool, count):
        estimator = ObjectDetector(**SMALL, classes=self.data.classes, random_state=0)
        learner = DetectionLearner(estimator, RandomSampling(random_state=0), self.data.X[:2], self.data.y[:2])
        known = learner.X_training, learner.y_training
        try:
            learner.teach(X, y)
        except MiaodError:
            assert learner.X_training is known[0] and learner.y_training is known[1], "a refused lesson is kept"
            raise
        assert len(learner.X_training) == len(learner.y_training) == 2 + len(X)

    def _score(self, X, y, pool, count):
        assert 0 <= self.fitted.score(X, y) <= 1

    def _check(self, X, y, pool, count):
        check_targets(y, 3)

    def _metric(self, X, y, pool, count):
        found = voc_average_precision(self.fitted.predict(self.data.X[:4]), y, 3)
        assert 0 <= found["map"] <= 1

    def _predict(self, X, y, pool, count):
        sane_detections(self.fitted.predict(X), [np.shape(x)[:2] for x in X], 3)

    def _transform(self, X, y, pool, count):
        embeddings = self.fitted.transform(X)
        assert len(embeddings) == len(X) and np.isfinite(embeddings).all()

    def _query(self, X, y, pool, count):
        strategy = RandomSampling(random_state=0)
        indices, images = DetectionLearner(self.fitted, strategy).query(X, n_instances=count)
        assert len(indices) == len(images) == min(count, len(X)) and len(set(indices.tolist())) == len(indices)

    def _unfitted(self, X, y, pool, count):
        estimator = MIAODDetector(**SMALL, classes=self.data.classes)
        for use in (estimator.predict, estimator.transform, lambda X: MIAODSampling()(estimator, X)):
            try:
                use(X)
            except (MiaodError, NotFittedError) as error:
                last = error
        raise last

    def _sane(self, estimator) -> None:
        assert all(np.isfinite(loss) for loss in estimator.losses_.values())
        sane_detections(estimator.predict(self.data.X[:1]), [(SIDE, SIDE)], 3)
