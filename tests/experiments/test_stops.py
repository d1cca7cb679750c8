"""Where stopping rules would have stopped arms, on curves whose answers are known."""

import pytest

from miaod_plugin.experiments.report.stops import mean_stop, stops_of
from miaod_plugin.stopping import PredictedGain, SpentBudget, StabilisedPredictions

IMAGES = (10, 20, 30, 40, 50)


def rows_of(curves, agreements=(None, 0.9, 0.9, 0.9, 0.9)):
    """Return result rows of ``{arm: (curve of seed 0, ...)}`` at 10, 20, ... images with three boxes each."""
    return [
        {"arm": arm, "seed": seed, "cycle": cycle, "images": n, "boxes": 3 * n, "spent": float(n), "ap50": score}
        | {"agreement": agreement, "uncertainty": None}
        for arm, seeds in curves.items()
        for seed, values in enumerate(seeds)
        for cycle, (n, score, agreement) in enumerate(zip(IMAGES, values, agreements, strict=True))
    ]


def test_what_is_lost_and_saved_is_counted_from_the_last_budget():
    rows = rows_of({"random": [(0.1, 0.2, 0.3, 0.4, 0.5)], "miaod": [(0.2, 0.4, 0.6, 0.7, 0.7)]})
    random, miaod = stops_of(SpentBudget(30), rows)
    assert (random.arm, miaod.arm) == ("random", "miaod")
    assert [row["images"] for row in random.rows] == [30]
    assert (random.lost["mean"], random.saved["mean"]) == pytest.approx((0.2, 0.4))
    assert (miaod.lost["mean"], miaod.saved["mean"]) == pytest.approx((0.1, 0.4))
    assert mean_stop(miaod, "ap50", "boxes") == (90, 0.6)


def test_a_seed_that_goes_on_loses_and_saves_nothing():
    flat, steep = (0.5, 0.6, 0.601, 0.599, 0.6), (0.1, 0.3, 0.4, 0.5, 0.55)
    (arm,) = stops_of(PredictedGain(0.015), rows_of({"a": [flat, steep]}))
    assert [row["seed"] for row in arm.rows] == [0] and arm.n == 2
    assert arm.saved["mean"] == pytest.approx((1 - arm.rows[0]["images"] / 50) / 2) and arm.saved["mean"] > 0
    assert mean_stop(arm, "ap50", "images") is None  # no more than half of the seeds stop


def test_to_stop_at_the_last_budget_is_no_stop():
    (arm,) = stops_of(SpentBudget(50), rows_of({"a": [(0.1, 0.2, 0.3, 0.4, 0.5)]}))
    assert arm.rows == [] and (arm.lost["mean"], arm.saved["mean"]) == (0, 0)


def test_a_rule_sees_the_agreement_that_was_measured():
    rows = rows_of({"a": [(0.1, 0.2, 0.3, 0.4, 0.5)]}, agreements=(None, 0.5, 0.7, 0.71, 0.9))
    (arm,) = stops_of(StabilisedPredictions(0.02, rounds=1), rows)
    assert [row["cycle"] for row in arm.rows] == [3]


def test_rows_without_a_score_stop_no_curve():
    (arm,) = stops_of(PredictedGain(), rows_of({"a": [(None,) * 5]}))
    assert arm.rows == [] and arm.lost["mean"] is None
