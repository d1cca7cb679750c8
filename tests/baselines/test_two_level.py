"""Choosing in two levels, from shards and then from their picks, against the same in scipy and the best choice."""

import weakref
from itertools import combinations, islice

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from miaod_plugin import ObjectDetector
from miaod_plugin.baselines import CoreSetSampling
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.strategies import MaxHerdingSampling

DATA = make_digit_scenes(24, random_state=4)
STRATEGIES = [CoreSetSampling(), MaxHerdingSampling(sigma=0.3)]


@pytest.fixture(scope="module")
def detector():
    return ObjectDetector("retinanet_tiny", DATA.classes, max_steps=1, random_state=0).fit(DATA.X[:4], DATA.y[:4])


def embeddings(n, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def farthest_first(pool, labeled, k):
    """Return the rows of the greedy choice by float64 distances of all pairs."""
    chosen, nearest = [], cdist(pool, labeled).min(axis=1)
    for _ in range(k):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, cdist(pool, pool[chosen[-1:]])[:, 0])
        nearest[chosen] = -1
    return chosen


def radius(pool, centers):
    return cdist(pool, centers).min(axis=1).max()


def test_the_choice_is_that_from_the_picks_of_all_shards():
    pool, labeled = embeddings(90), embeddings(5, seed=1)
    shards = np.split(pool, [20, 55])
    rows = np.concatenate(
        [first + np.array(farthest_first(x, labeled, 8)) for x, first in zip(shards, (0, 20, 55), strict=True)]
    )
    expected = rows[farthest_first(pool[rows], labeled, 8)].tolist()
    found, distances = zip(*CoreSetSampling().of_shards(shards, labeled, 8), strict=True)
    assert list(found) == expected
    centers = [np.concatenate([labeled, pool[expected[:k]]]) for k in range(8)]
    np.testing.assert_allclose(distances, [radius(pool[[row]], x) for row, x in zip(found, centers, strict=True)], 1e-5)


@pytest.mark.parametrize("n_labeled", [0, 2])
@pytest.mark.parametrize("seed", range(8))
def test_the_radius_is_at_most_four_times_the_smallest_there_is(n_labeled, seed):
    pool, labeled, k = embeddings(15, 2, seed), embeddings(n_labeled, 2, 100 + seed), 3
    pool = pool[np.argsort(pool[:, 0])]  # what is alike lies in one shard
    best = min(radius(pool, np.concatenate([labeled, pool[list(some)]])) for some in combinations(range(15), k))
    rows = [row for row, _ in CoreSetSampling().of_shards(np.split(pool, 3), labeled, k)]
    assert best <= radius(pool, np.concatenate([labeled, pool[rows]])) <= 4 * best


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_pool_of_one_shard_is_chosen_from_at_once_and_empty_shards_change_nothing(strategy):
    pool, labeled = embeddings(40), embeddings(3, seed=1)
    whole = list(islice(strategy.order(pool, labeled), 9))
    assert list(strategy.of_shards([pool[:0], pool, pool[:0]], labeled, 9)) == whole
    assert list(strategy.of_shards([], labeled, 9)) == list(strategy.of_shards([pool[:0]], labeled, 9)) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_labelled_is_known_at_both_levels(strategy):
    near = np.array([[10, 0.1], [10, -0.1], [0.1, 10], [-0.1, 10]], dtype=np.float32)
    pool = np.concatenate([near[:2], [[0, -10], [0.2, -10]], near[2:], [[-10, 0], [-10, 0.2]]]).astype(np.float32)
    labeled = np.array([[10, 0], [0, 10]], dtype=np.float32)
    found = [row for row, _ in strategy.of_shards(np.split(pool, 2), labeled, 2)]
    assert {row // 2 for row in found} == {1, 3}
    unlabeled = [row for row, _ in strategy.of_shards(np.split(pool, 2), labeled[:0], 4)]
    assert {row // 2 for row in unlabeled} == {0, 1, 2, 3}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_of_equal_rows_the_first_is_taken_and_each_only_once(strategy):
    pool = np.repeat(embeddings(4), 6, axis=0)
    rows = [row for row, _ in strategy.of_shards(np.split(pool, 3), embeddings(1, seed=3), 24)]
    assert sorted(rows) == list(range(24))
    assert sorted(rows[:4]) == [0, 6, 12, 18]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shards_come_from_a_file_and_only_one_is_held_at_a_time(strategy, tmp_path):
    pool, labeled = embeddings(60), embeddings(3, seed=1)
    pool.tofile(tmp_path / "pool")
    alive = []

    def shards():
        for start in range(0, 60, 20):
            assert not any(shard() is not None for shard in alive)
            shard = np.memmap(tmp_path / "pool", np.float32, "r", 4 * 6 * start, (20, 6))
            alive.append(weakref.ref(shard))
            yield shard
            del shard

    found = list(strategy.of_shards(shards(), labeled, 7))
    assert found == list(strategy.of_shards(np.split(pool, 3), labeled, 7)) and len(alive) == 3
    assert (tmp_path / "pool").read_bytes() == pool.tobytes()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_picks_of_shards_may_be_found_anywhere_and_in_any_order(strategy):
    pool, labeled = embeddings(60), embeddings(3, seed=1)
    picks = [strategy.picks_of(pool[start : start + 20], labeled, 7, first=start) for start in (40, 0, 20)]
    whole = list(strategy.of_shards(np.split(pool, 3), labeled, 7))
    assert list(strategy.of_picks(picks, labeled, 7)) == whole and len(whole) == 7


def test_a_row_that_is_no_number_is_named_by_its_place_in_the_pool():
    pool, labeled = embeddings(30), embeddings(2)
    pool[17, 2] = np.nan
    with pytest.raises(DataError, match=r"^pool: the embedding of image 17 is not finite; fit the detector anew$"):
        list(CoreSetSampling().of_shards(np.split(pool, 3), labeled, 2))
    with pytest.raises(DataError, match=r"^pool: the embedding of image 17 is not finite; fit the detector anew$"):
        list(CoreSetSampling().order(pool, labeled))
    with pytest.raises(DataError, match=r"^pool: embeddings of the shape \(10, 5\), and labelled ones of \(2, 6\)"):
        list(CoreSetSampling().of_shards([pool[:10], pool[10:20, :5]], labeled, 2))


@pytest.mark.parametrize("strategy", [CoreSetSampling(shard_size=6), MaxHerdingSampling(sigma=0.3, shard_size=6)])
def test_a_query_embeds_a_shard_of_images_at_a_time(detector, strategy):
    pool, known = detector.transform(DATA.X[4:]), detector.transform(DATA.X[:4])
    expected = list(strategy.of_shards(np.split(pool, [6, 12, 18]), known, 5))
    seen = []

    class Watched(ObjectDetector):
        def transform(self, X):
            seen.append(len(X))
            return super().transform(X)

    watched = Watched.__new__(Watched)
    vars(watched).update(vars(detector))
    indices, utilities = strategy.query(watched, DATA.X[4:], 5)
    assert [*zip(indices.tolist(), utilities.tolist(), strict=True)] == expected and seen == [4, 6, 6, 6, 2]
    alone = np.concatenate([strategy.alone(shard, known) for shard in np.split(pool, [6, 12, 18])])
    np.testing.assert_array_equal(strategy.utilities(watched, DATA.X[4:]), alone)


def test_a_shard_without_images_is_refused(detector):
    with pytest.raises(ConfigError, match="shard_size: 0 is not allowed; give a whole number from 1 to"):
        CoreSetSampling(shard_size=0).query(detector, DATA.X[4:], 1)
