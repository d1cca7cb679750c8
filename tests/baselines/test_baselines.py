"""Random, entropy and core-set selection against independent computations."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from double_precision import in_double
from scipy.spatial.distance import cdist
from scipy.stats import entropy as shannon_entropy
from sklearn.dummy import DummyClassifier

from miaod_plugin import ObjectDetector
from miaod_plugin.baselines import CoreSetSampling, EntropySampling, RandomSampling
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError, DataError

DATA = make_digit_scenes(24, random_state=4)


@pytest.fixture(scope="module")
def detector():
    estimator = ObjectDetector(
        "retinanet_tiny", classes=DATA.classes, max_steps=60, learning_rate=0.02, batch_size=4, random_state=0
    )
    return estimator.fit(DATA.X[:6], DATA.y[:6])


def test_random_and_coreset_selection_are_there_without_the_seconds_that_torch_takes_to_load():
    ask = "RandomSampling(random_state=0).query(DummyClassifier(), ['a.png', 'b.png', 'c.png'], 2)"
    code = f"""
import sys
from sklearn.dummy import DummyClassifier
from miaod_plugin.baselines import CoreSetSampling, RandomSampling
print({ask}[0].tolist(), 'torch' in sys.modules)
from miaod_plugin.baselines import EntropySampling
print('torch' in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    indices, _ = RandomSampling(random_state=0).query(DummyClassifier(), ["a.png", "b.png", "c.png"], 2)
    assert ended.stdout.splitlines() == [f"{indices.tolist()} False", "True"]


def test_random_differs_between_seeds_and_covers_the_pool(detector):
    picks = [RandomSampling(random_state=seed).query(detector, DATA.X[6:], 3)[0] for seed in range(40)]
    assert len({tuple(pick) for pick in picks}) > 30
    assert len(set(np.concatenate(picks))) == 18


def test_coreset_equals_the_greedy_k_center_of_a_distance_matrix(detector):
    pool, labelled = (detector.transform(X).astype(np.float64) for X in (DATA.X[6:], DATA.X[:6]))
    matrix, nearest = cdist(pool, pool), cdist(pool, labelled).min(axis=1)
    expected = []
    for _ in range(8):
        farthest = int(nearest.argmax())
        expected.append((farthest, nearest[farthest]))
        nearest = np.minimum(nearest, matrix[farthest])
    indices, utilities = CoreSetSampling().query(detector, DATA.X[6:], 8)
    assert indices.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(utilities, [distance for _, distance in expected], rtol=1e-6)


def test_coreset_takes_every_image_once_even_when_they_are_all_alike(detector):
    pool = np.repeat(DATA.X[7:8], 5, axis=0)
    indices, utilities = CoreSetSampling().query(detector, pool, 5)
    assert sorted(indices) == [0, 1, 2, 3, 4] and (np.diff(utilities) <= 0).all()


def test_a_labelled_image_is_the_last_that_coreset_asks_for(detector):
    pool = np.concatenate([DATA.X[6:10], DATA.X[:1]])
    assert CoreSetSampling().query(detector, pool, 5)[0][-1] == 4


def test_coreset_starts_from_the_images_it_is_told_of_rather_than_those_the_detector_was_fitted_on(detector, tmp_path):
    pool = np.concatenate([DATA.X[6:10], DATA.X[:1], DATA.X[12:13]])
    indices, _ = CoreSetSampling().query(detector, pool, 6, labeled=DATA.X[12:15])
    assert indices[-1] == 5 and CoreSetSampling().query(detector, pool, 6)[0][-1] == 4
    assert CoreSetSampling().utilities(detector, pool, labeled=DATA.X[12:15])[5] == 0
    detector.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    told = CoreSetSampling().query(loaded, pool, 6, labeled=(DATA.X[12:15], DATA.y[12:15]))[0]
    np.testing.assert_array_equal(told, indices)
    with pytest.raises(ConfigError, match=r"^labeled: .* a loaded detector does not know; query with labeled=X$"):
        CoreSetSampling().query(loaded, pool, 6)


def test_what_is_no_set_of_labelled_images_is_refused_in_one_line(detector):
    for labeled, message in (
        ("a.png", "^labeled: 'a.png' is not a set of images"),
        ((DATA.X[:2],), r"^labeled: a tuple of 1 is not allowed; give images X, or \(X, y\)"),
        ((DATA.X[:2], DATA.y[:3]), "^y: 3 targets for 2 images"),
    ):
        with pytest.raises(DataError, match=message):
            RandomSampling().query(detector, DATA.X[6:], 1, labeled=labeled)


@pytest.mark.parametrize("strategy", [CoreSetSampling(), EntropySampling(), RandomSampling(random_state=0)])
def test_a_ranking_yields_what_a_query_returns_one_by_one(detector, strategy):
    indices, utilities = strategy.query(detector, DATA.X[6:], 9)
    ranking = strategy.ranking(detector, DATA.X[6:], 9)
    assert next(ranking) == (indices[0], utilities[0])
    assert list(ranking) == list(zip(indices[1:], utilities[1:], strict=True))


@pytest.mark.parametrize("aggregate", ["max", "mean", "sum"])
def test_entropy_of_detections_is_scipy_s(detector, aggregate):
    detector = in_double(detector)
    predictions = detector.predict(DATA.X[6:])
    assert max(len(found["scores"]) for found in predictions) > 1
    expected = [
        getattr(np, aggregate)(shannon_entropy([found["scores"], 1 - found["scores"]], axis=0))
        if len(found["scores"])
        else 0.0
        for found in predictions
    ]
    utilities = EntropySampling(aggregate=aggregate).utilities(detector, DATA.X[6:])
    np.testing.assert_allclose(utilities, expected, rtol=1e-6)


def test_entropy_of_instances_counts_every_anchor_and_class(detector):
    def scores(outputs):
        return torch.cat(outputs.heads[0], dim=1).sigmoid()

    detector = in_double(detector)
    p = detector.map_pool(DATA.X[6:], {"p": scores})["p"]
    expected = shannon_entropy(np.stack([p, 1 - p]), axis=0).sum(axis=2).mean(axis=1)
    utilities = EntropySampling(over="instances", aggregate="mean").utilities(detector, DATA.X[6:])
    np.testing.assert_allclose(utilities, expected, rtol=1e-6)


def test_entropy_of_instances_leaves_padding_out(detector):
    X, detector = np.ascontiguousarray(DATA.X[6:, :, :40]), in_double(detector)  # padded to 64 x 64
    p = detector.map_pool(X, {"p": lambda outputs: torch.cat(outputs.heads[0], dim=1).sigmoid()})["p"]
    on_image = []
    for stride in (8, 16, 32):
        columns = (np.arange(64 // stride) + 0.5) * stride < 40
        on_image.append(np.repeat(np.tile(columns, 64 // stride), 6))  # six anchors in each cell, row by row
    p = p[:, np.concatenate(on_image)]
    expected = shannon_entropy(np.stack([p, 1 - p]), axis=0).sum(axis=2).sum(axis=1)
    utilities = EntropySampling(over="instances", aggregate="sum").utilities(detector, X)
    np.testing.assert_allclose(utilities, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"over": "detection"}, "over: 'detection' is not allowed; give 'detections' or 'instances'"),
        ({"over": ["instances"]}, r"over: \['instances'\] is not allowed"),
        ({"aggregate": "maximum"}, "aggregate: 'maximum' is not allowed; give 'max', 'mean' or 'sum'"),
    ],
)
def test_an_unknown_choice_of_entropy_is_named(detector, parameters, message):
    with pytest.raises(ConfigError, match=message):
        EntropySampling(**parameters).utilities(detector, DATA.X[6:])
