from itertools import permutations

import numpy as np

from miaod_plugin.data import make_targets
from miaod_plugin.experiments.config.sampling import (
    annotation_costs,
    initial_set,
    most_images,
    random_state,
    reaching,
    unlabelled_subset,
)
from miaod_plugin.experiments.config.sections import Budget

ONES = np.ones(100)


def test_the_initial_set_is_distinct_in_order_and_follows_from_the_seed():
    chosen = initial_set(ONES, 20, seed=3)
    assert chosen.tolist() == sorted(set(chosen.tolist())) and len(chosen) == 20
    assert set(chosen) <= set(range(100))
    np.testing.assert_array_equal(chosen, initial_set(ONES, 20, seed=3))
    assert not np.array_equal(chosen, initial_set(ONES, 20, seed=4))


def test_the_initial_set_reaches_its_budget_with_the_last_image():
    costs = np.arange(100) % 7.0  # some images cost nothing
    for budget in (1, 30, 250):
        chosen = initial_set(costs, budget, seed=0)
        assert len(set(chosen.tolist())) == len(chosen)
        assert budget <= costs[chosen].sum() < budget + 6
    assert len(initial_set(costs + 1, (costs + 1).sum(), seed=0)) == 100


def test_annotation_is_paid_by_image_by_box_or_in_seconds():
    y = make_targets([{"labels": np.zeros(n, np.int64)} for n in (0, 1, 3)])
    assert annotation_costs(y, Budget()).tolist() == [1, 1, 1]
    assert annotation_costs(y, Budget(unit="boxes")).tolist() == [0, 1, 3]
    assert annotation_costs(y, Budget(unit="seconds")).tolist() == [7.8, 7.8 + 25.5, 7.8 + 3 * 25.5]
    assert annotation_costs(y, Budget(unit="seconds", per_image=2, per_box=0)).tolist() == [2, 2, 2]


def test_images_are_taken_until_the_amount_is_reached():
    costs = np.array([2.0, 0.0, 3.0, 1.0])
    assert [reaching(costs, amount) for amount in (-1, 0, 1, 2, 2.5, 5, 6, 7)] == [0, 0, 1, 1, 3, 3, 4, 5]


def test_no_order_of_images_needs_more_of_them_than_the_cheapest_first():
    costs = np.array([2.0, 0.0, 3.0, 1.0])
    for amount in (-1, 0, 1, 2, 2.5, 5, 6):
        orders = permutations(costs)
        assert most_images(costs, amount) == max(reaching(np.array(order), amount) for order in orders)
    assert most_images(costs[:0], 5) == 0


def test_the_unlabelled_subset_is_as_large_as_the_labelled_set_where_the_pool_allows():
    pool = np.arange(40, 100)
    subset = unlabelled_subset(pool, 40, seed=0, cycle=1)
    assert subset.tolist() == sorted(set(subset.tolist())) and len(subset) == 40
    assert set(subset) <= set(pool)
    assert set(unlabelled_subset(pool[:7], 40, seed=0, cycle=1)) == set(pool[:7])
    assert len(unlabelled_subset(pool[:0], 40, seed=0, cycle=1)) == 0


def test_every_purpose_and_cycle_has_its_own_stream():
    states = {random_state(seed, what, cycle) for seed in (0, 1) for what in ("query", "training") for cycle in (0, 1)}
    assert len(states) == 8


def test_drawing_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not change
    initial_set(ONES, 20, seed=3)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
