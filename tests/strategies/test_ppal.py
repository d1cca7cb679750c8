"""PPAL's selection against independent computations in numpy."""

from itertools import combinations
from math import exp, log

import numpy as np
import pytest
from by_hand import iou, trained
from scipy.stats import entropy as shannon_entropy

from miaod_plugin.data import make_digit_scenes, make_targets, read_image
from miaod_plugin.strategies import PPALSampling
from miaod_plugin.strategies.matching import k_medoids, matching_distances

DATA = make_digit_scenes(40, n_classes=3, random_state=6)
START, POOL = DATA.X[:8], DATA.X[8:]


@pytest.fixture(scope="module")
def detector():
    return trained(DATA, 8, steps=80)


def weights_by_hand(detector, X, y):
    """Return the weight of each class, object by object."""
    qualities = {label: [] for label in range(3)}
    for found, target in zip(detector.predict(X), y, strict=True):
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            of_class = zip(found["boxes"], found["scores"], found["labels"], strict=True)
            values = [float(p) ** 0.6 * iou(box, other) ** 0.4 for other, p, own in of_class if own == label]
            qualities[int(label)].append(max(values, default=0.0))
    means = [np.mean(values) if values else 0.0 for values in qualities.values()]
    return [1 + 0.3 * 0.2 * log((exp(1 / 0.3) - 1) * (1 - q) + 1) for q in means]


def test_utilities_are_the_entropies_of_scores_weighed_by_how_badly_their_class_is_detected(detector):
    weights = weights_by_hand(detector, START, DATA.y[:8])
    assert 1 < min(weights) < max(weights) < 1.2
    expected = [
        sum(
            weights[label] * shannon_entropy([score, 1 - score])
            for label, score in zip(found["labels"], found["scores"].astype(float), strict=True)
            if score > 0.05
        )
        for found in detector.predict(POOL)
    ]
    np.testing.assert_allclose(PPALSampling().utilities(detector, POOL), expected, rtol=1e-6, atol=1e-6)


def test_a_class_that_is_never_seen_has_the_largest_weight_and_difficult_objects_do_not_count(detector):
    y = make_targets([target | {"difficult": target["labels"] == 1} for target in DATA.y[:8]])
    without = make_targets(
        [{key: target[key][target["labels"] != 1] for key in ("boxes", "labels")} for target in DATA.y[:8]]
    )
    told = [PPALSampling().utilities(detector, POOL, labeled=(START, targets)) for targets in (y, without, DATA.y[:8])]
    np.testing.assert_array_equal(told[0], told[1])
    found = detector.predict(POOL)
    has_one = np.array([bool((image["labels"] == 1).any()) for image in found])
    assert (told[1][has_one] > told[2][has_one]).all() and (told[1][~has_one] == told[2][~has_one]).all()
    assert PPALSampling().class_weights(np.zeros(1)) == pytest.approx(1.2) and has_one.sum() > 10


def distances_by_hand(images):
    def one_way(first, second):
        if not len(first):
            return 0.0 if not len(second) else 2.0
        total = 0.0
        for label, score, *features in first:
            others = [row[2:] for row in second if row[0] == label]
            cosines = [np.dot(features, f) / np.linalg.norm(features) / np.linalg.norm(f) for f in others]
            total += score * (1 - max(cosines, default=-1.0))
        return total / first[:, 1].sum()

    there = np.array([[one_way(first, second) for second in images] for first in images])
    return (there + there.T) / 2


def test_distances_match_detections_of_a_class_by_their_features():
    rng = np.random.default_rng(0)
    images = [
        np.column_stack([rng.integers(0, 3, m), rng.uniform(0.05, 1, m), rng.normal(size=(m, 5))]).astype(np.float32)
        for m in (4, 1, 0, 7, 3, 0, 2)
    ]
    distances, expected = matching_distances(images), distances_by_hand([image.astype(np.float64) for image in images])
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    assert distances[2, 5] == 0 and distances[2, 0] == 2


def test_medoids_are_the_best_of_all_sets_where_groups_are_apart():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(centre, 0.1, (n, 2)) for centre, n in (((0, 0), 5), ((3, 0), 9), ((0, 4), 4))])
    points = points[rng.permutation(18)]
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    best = min(combinations(range(18), 3), key=lambda rows: distances[:, rows].min(axis=1).sum())
    assert k_medoids(distances, 3).tolist() == list(best)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_medoids_of_images_that_are_all_alike_are_distinct(k):
    assert len(set(k_medoids(np.zeros((5, 5)), k).tolist())) == k


def test_a_query_takes_the_medoids_of_the_four_times_as_many_most_uncertain_images(detector):
    utilities = PPALSampling().utilities(detector, POOL)
    kept = np.argsort(-utilities, kind="stable")[:12]
    network, images = detector.network_, []
    for row in kept:
        outputs = network.eval()([read_image(POOL[row]).float() / 255])
        found = outputs.detections[0]
        per_level = [level[0] for level in outputs.features.maps]  # (D, H, W), six anchors in each cell
        cells = np.concatenate([level.detach().flatten(1).T.repeat_interleave(6, dim=0).numpy() for level in per_level])
        columns = [found["labels"].numpy(), found["scores"].detach().numpy(), cells[found["instances"].numpy()]]
        images.append(np.column_stack(columns))
    expected = kept[k_medoids(distances_by_hand(images), 3)]
    indices, chosen = PPALSampling().query(detector, POOL, 3)
    assert indices.tolist() == expected.tolist() and chosen.tolist() == utilities[expected].tolist()
    assert indices.tolist() != kept[:3].tolist()


def test_pools_that_hold_the_same_image_several_times_or_no_more_than_is_asked_for_are_answered(detector):
    for pool, n in ((POOL[:1], 1), (np.repeat(POOL[:1], 9, axis=0), 2), (POOL[:5], 5), (np.zeros_like(POOL[:9]), 2)):
        indices, utilities = PPALSampling().query(detector, pool, n)
        assert len(set(indices.tolist())) == n and (np.diff(utilities) <= 0).all()
