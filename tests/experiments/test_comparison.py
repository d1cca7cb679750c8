"""Several runs side by side."""

import pytest
from scipy.stats import spearmanr

from miaod_plugin.experiments.report.comparison import Comparison, order
from miaod_plugin.experiments.report.statistics import describe


def run_with(areas: dict[str, float]) -> Comparison:
    """Return a run whose arms have these areas, of two seeds."""
    rows = [
        {"arm": arm, "seed": seed, "cycle": cycle, "images": 10 + cycle, "ap50": area + 0.01 * (2 * seed - 1)}
        for arm, area in areas.items()
        for seed in range(2)
        for cycle in range(2)
    ]
    return Comparison(rows, "ap50", "a", describe([]))


def test_an_order_of_arms_that_transfers_correlates():
    one = run_with({"a": 0.2, "b": 0.5, "c": 0.4, "d": 0.3})
    two = run_with({"d": 0.5, "c": 0.6, "b": 0.7, "a": 0.1, "e": 0.9})  # e is in this run alone
    three = run_with({"a": 0.5, "b": 0.3, "c": 0.4, "d": 0.4})  # two of the same area
    said = order({"one": one, "two": two, "three": three})
    assert said["arms"].keys() == {"a", "b", "c", "d"}
    assert [place for _, place in said["arms"]["a"]] == [4, 4, 1]
    assert [place for _, place in said["arms"]["c"]] == [2, 2, 2.5]
    assert [area for area, _ in said["arms"]["b"]] == pytest.approx([0.5, 0.7, 0.3])
    against = spearmanr([0.2, 0.5, 0.4, 0.3], [0.5, 0.3, 0.4, 0.4]).statistic
    assert said["correlations"] == pytest.approx([1, 1, against]) and against < -0.9


def test_an_order_of_two_arms_says_nothing():
    assert order({"one": run_with({"a": 0.2, "b": 0.5}), "two": run_with({"a": 0.2, "b": 0.5, "c": 0.1})}) is None


def test_arms_that_are_all_alike_have_no_correlation(recwarn):
    alike = run_with({"a": 0.2, "b": 0.2, "c": 0.2})
    said = order({"one": alike, "two": run_with({"a": 0.2, "b": 0.5, "c": 0.1})})
    assert said["correlations"][1] != said["correlations"][1] and not recwarn.list
