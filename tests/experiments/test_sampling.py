import numpy as np

from miaod_plugin.experiments.sampling import initial_set, random_state, unlabelled_subset


def test_the_initial_set_is_distinct_and_follows_from_the_seed():
    chosen = initial_set(100, 20, seed=3)
    assert len(set(chosen.tolist())) == 20
    assert set(chosen) <= set(range(100))
    np.testing.assert_array_equal(chosen, initial_set(100, 20, seed=3))
    assert not np.array_equal(chosen, initial_set(100, 20, seed=4))


def test_the_unlabelled_subset_is_as_large_as_the_labelled_set_where_the_pool_allows():
    pool = np.arange(40, 100)
    subset = unlabelled_subset(pool, 40, seed=0, cycle=1)
    assert len(set(subset.tolist())) == 40
    assert set(subset) <= set(pool)
    assert set(unlabelled_subset(pool[:7], 40, seed=0, cycle=1)) == set(pool[:7])
    assert len(unlabelled_subset(pool[:0], 40, seed=0, cycle=1)) == 0


def test_every_purpose_and_cycle_has_its_own_stream():
    states = {random_state(seed, what, cycle) for seed in (0, 1) for what in ("query", "training") for cycle in (0, 1)}
    assert len(states) == 8


def test_drawing_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not change
    initial_set(100, 20, seed=3)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
