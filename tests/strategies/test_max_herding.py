"""MaxHerding against the greedy choice computed in numpy, from scratch at every step."""

from itertools import islice

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.strategies import MaxHerdingSampling
from miaod_plugin.strategies.coverage import KernelCover, greedy_coverage

DATA = make_digit_scenes(16, random_state=4)


def by_hand(pool, labeled, sigma, k):
    """Return the k rows that add most to the mean of the largest kernel values, and what each adds."""
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (pool, labeled)]
    kernel = np.exp(-(cdist(unit[0], np.concatenate([unit[0], unit[1]])) ** 2) / (2 * sigma**2))
    centers, chosen, added = list(range(len(pool), len(pool) + len(labeled))), [], []

    def coverage(rows):
        return kernel[:, rows].max(axis=1).mean() if rows else 0.0

    for _ in range(k):
        now = coverage(centers)
        gains = [-1.0 if row in chosen else coverage([*centers, row]) - now for row in range(len(pool))]
        chosen.append(int(np.argmax(np.round(gains, 10))))  # pairs that are most like each other add the same
        added.append(max(gains))
        centers.append(chosen[-1])
    return chosen, added


@pytest.mark.parametrize(("sigma", "n_labeled"), [(1.0, 0), (0.3, 5), (0.05, 3)])
def test_each_row_adds_most_to_the_coverage_of_the_pool(sigma, n_labeled):
    rng = np.random.default_rng(0)
    pool, labeled = rng.normal(size=(150, 6)).astype(np.float32), rng.normal(size=(n_labeled, 6)).astype(np.float32)
    chosen, added = by_hand(pool.astype(np.float64), labeled.astype(np.float64), sigma, 40)
    rows, gains = zip(*islice(greedy_coverage(pool, labeled, sigma), 40), strict=True)
    assert list(rows) == chosen
    np.testing.assert_allclose(gains, added, atol=1e-6)


def test_gains_are_the_same_in_blocks(monkeypatch):
    pool, labeled = np.random.default_rng(1).normal(size=(2, 90, 5)).astype(np.float32)
    whole = [row for row, _ in greedy_coverage(pool, labeled, 0.4)]
    for name, size in (("ROWS", 7), ("CENTERS", 11), ("TOGETHER", 3)):
        monkeypatch.setattr(f"miaod_plugin.strategies.coverage.{name}", size)
    assert [row for row, _ in greedy_coverage(pool, labeled, 0.4)][:60] == whole[:60]
    assert sorted(whole) == list(range(90))


def test_a_pool_of_equal_images_is_covered_by_one_and_every_row_is_taken_once():
    pairs = list(greedy_coverage(np.ones((70, 3), np.float32), np.zeros((0, 3), np.float32), 1.0))
    assert sorted(row for row, _ in pairs) == list(range(70))
    assert [added for _, added in pairs] == pytest.approx([1.0] + [0.0] * 69)


def test_what_is_dense_comes_first_where_core_set_goes_to_the_margin():
    pool = np.array([[1, 0.0], [1, 0.01], [1, 0.02], [-1, 0.3], [0, 1]], dtype=np.float32)
    assert next(greedy_coverage(pool, np.zeros((0, 2), np.float32), 0.2))[0] == 1


def clusters(n=600):
    """Return rows of clusters of all sizes, the clusters one after the other."""
    rng = np.random.default_rng(2)
    which = np.sort(rng.choice(15, n, p=rng.dirichlet(np.ones(15) / 2)))
    return (rng.normal(size=(15, 8))[which] + 0.4 * rng.normal(size=(n, 8))).astype(np.float32)


def kernel(x, centers, sigma):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (x.astype(np.float64), centers.astype(np.float64))]
    return np.exp(-(cdist(*unit) ** 2) / (2 * sigma**2))


def test_a_pick_of_a_shard_stands_for_the_rows_that_it_covers_best_by_as_much_as_it_does(monkeypatch):
    monkeypatch.setattr("miaod_plugin.strategies.coverage.CENTERS", 3)
    pool, labeled, picked = clusters(80), clusters(80)[::40] + 0.1, np.array([50, 3, 20, 70])
    given = kernel(pool, pool[picked], 0.5)
    ours = given.max(axis=1) > kernel(pool, labeled, 0.5).max(axis=1)
    expected = [given[ours & (given.argmax(axis=1) == k), k].sum() for k in range(4)]
    np.testing.assert_allclose(KernelCover(pool, labeled, 0.5).shares(picked), expected, rtol=1e-5)
    assert 0 < ours.sum() < 80 and min(expected) >= 1


@pytest.mark.parametrize("sigma", [1.0, 0.3])
def test_two_levels_cover_a_pool_about_as_well_as_one(sigma):
    pool, strategy = clusters(), MaxHerdingSampling(sigma=sigma)
    coverage = {
        name: kernel(pool, pool[[row for row, _ in pairs]], sigma).max(axis=1).mean()
        for name, pairs in (
            ("at once", islice(strategy.order(pool, pool[:0]), 15)),
            ("shards", strategy.of_shards(np.split(pool, 6), pool[:0], 15)),
        )
    }
    assert coverage["shards"] > 0.985 * coverage["at once"]


@pytest.fixture(scope="module")
def detector():
    return ObjectDetector("retinanet_tiny", DATA.classes, max_steps=10, random_state=0).fit(DATA.X[:4], DATA.y[:4])


def test_images_are_chosen_by_their_embeddings(detector):
    pool, labeled = (detector.transform(X).astype(np.float64) for X in (DATA.X[4:], DATA.X[:4]))
    chosen, added = by_hand(pool, labeled, 0.1, 5)
    strategy = MaxHerdingSampling(sigma=0.1)
    indices, utilities = strategy.query(detector, DATA.X[4:], 5)
    assert indices.tolist() == chosen
    np.testing.assert_allclose(utilities, added, atol=1e-6)
    assert strategy.utilities(detector, DATA.X[4:]).max() == pytest.approx(utilities[0], abs=1e-9)


def test_a_kernel_without_width_and_embeddings_that_are_not_numbers_are_refused(detector):
    with pytest.raises(ConfigError, match="sigma: 0 is not allowed; give a number from"):
        MaxHerdingSampling(sigma=0).query(detector, DATA.X[4:], 1)
    with pytest.raises(DataError, match="pool: the embedding of image 1 is not finite"):
        KernelCover(np.array([[1.0], [np.nan]]), np.zeros((0, 1)), 1.0)
