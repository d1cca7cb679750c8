"""Greedy k-center against float64 distances of all pairs, also of rows that float32 products cannot tell apart."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.overrides import TorchFunctionMode

from miaod_plugin.baselines import k_center
from miaod_plugin.baselines.k_center import CENTERS, k_center_greedy, k_centers, nearest_distances
from miaod_plugin.errors import DataError

N, D = 240, 24
NOISE = np.random.default_rng(0).normal(size=(N, D))
SIDE = np.where(np.arange(N) % 2, 1, -1)[:, None]
POOLS = {
    "spread": NOISE,
    "two clusters": 1e-3 * NOISE + SIDE,
    "two tiny clusters": 1e-6 * NOISE + SIDE,
    "frames of films": np.repeat(NOISE[::40], 40, axis=0) + 1e-4 * NOISE,
    "each five times": np.repeat(NOISE[::5], 5, axis=0),
    "all alike": np.repeat(NOISE[:1], N, axis=0),
    "one far away": np.concatenate([1e-4 * NOISE[1:], 100 * NOISE[:1]]),
}


@pytest.fixture(params=POOLS)
def pool(request):
    return POOLS[request.param].astype(np.float32)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def greedy(pool, labeled):
    """Return the choice of all rows and their distances by a float64 matrix of all distances."""
    center = pool.mean(axis=0, dtype=np.float64).astype(np.float32)  # taken off in float32, as ours does
    pool, labeled = ((x - center).astype(np.float64) for x in (pool, labeled))
    matrix, nearest, chosen = cdist(pool, pool), cdist(pool, labeled).min(axis=1), []
    for _ in range(len(pool)):
        row = int(nearest.argmax())
        chosen.append((row, nearest[row]))
        nearest = np.minimum(nearest, matrix[row])
        nearest[row] = -1
    return np.array([row for row, _ in chosen]), np.array([distance for _, distance in chosen])


@pytest.mark.parametrize("block", [CENTERS, 16])
def test_every_pick_is_the_farthest_row_and_equals_come_last_in_their_order(pool, block, monkeypatch):
    monkeypatch.setattr(k_center, "CENTERS", block)
    expected, distances = greedy(pool, pool[3:6])
    indices, utilities = k_center_greedy(pool, pool[3:6], N)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(utilities, distances, rtol=1e-6)
    assert (utilities == 0).sum() == (distances == 0).sum() > 0 and (np.diff(utilities) <= 0).all()


@pytest.mark.parametrize("name", ["spread", "two clusters"])
def test_the_choice_is_the_same_with_two_threads(name, threads):
    pool, choices = np.concatenate([POOLS[name], -POOLS[name]] * 70), []  # as many rows as torch splits over threads
    pool = pool.astype(np.float32)
    for count in (1, 2):
        threads(count)
        choices.append(k_center_greedy(pool, pool[3:6], 8))
    np.testing.assert_array_equal(*choices)


def test_distances_to_more_labelled_rows_than_a_block_holds_are_those_of_all_pairs():
    rng = np.random.default_rng(1)
    pool, labeled = (rng.normal(5, 1, size=(n, 3)).astype(np.float32) for n in (50, CENTERS + 60))
    labeled[-5:] = pool[:5]
    nearest = nearest_distances(pool, labeled)
    np.testing.assert_allclose(nearest, cdist(pool, labeled).min(axis=1), atol=1e-6)
    assert nearest.dtype == np.float64 and (nearest[:5] == 0).all() and nearest[5:].all()


def test_without_labelled_rows_the_first_row_starts():
    pool = NOISE.astype(np.float32)
    indices, distances = k_center_greedy(pool, pool[:0], 3)
    np.testing.assert_array_equal(indices[1:], greedy(pool, pool[:1])[0][:2])
    assert (indices[0], distances[0]) == (0, np.inf)


class Largest(TorchFunctionMode):
    """Notes the bytes of the largest tensor that is made."""

    bytes = 0

    def __init__(self, among: int):
        super().__init__()
        self.among = among

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() != self.among:  # rows are views
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("name", ["spread", "two tiny clusters"])
def test_a_pick_makes_nothing_that_is_as_large_as_the_pool(name, monkeypatch):
    monkeypatch.setattr(k_center, "CENTERS", 16)
    pool = POOLS[name].astype(np.float32)
    picks = k_centers(pool, pool[:2])
    next(picks)
    with Largest(among=pool.nbytes) as largest:
        for _ in range(20):
            next(picks)
    assert 0 < largest.bytes <= 16 * N * 4 < pool.nbytes


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_an_embedding_that_is_no_number_is_named(value):
    pool = NOISE.astype(np.float32)
    broken = pool[:4].copy()
    broken[2, 1] = value
    with pytest.raises(DataError, match=r"^labeled: the embedding of image 2 is not finite; fit the detector anew$"):
        nearest_distances(pool, broken)


TOLD = """
import numpy as np, torch
from miaod_plugin.baselines.k_center import k_center_greedy
pool = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
before, _ = k_center_greedy(pool, pool[:2], 5)
for precision in ("ieee", "tf32"):
    torch.backends.fp32_precision = precision
    assert (k_center_greedy(pool, pool[:2], 5)[0] == before).all()
"""


def test_torch_may_be_told_how_exact_to_be_in_either_way():
    subprocess.run([sys.executable, "-c", TOLD], check=True)  # torch does not forget what it was told
