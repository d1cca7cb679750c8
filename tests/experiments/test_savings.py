"""Labels saved, on curves whose answers are known."""

import json

import numpy as np
import pytest
from scipy import stats

from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.report.savings import first_reach, labels_saved
from miaod_plugin.experiments.report.tables import saving

IMAGES = (10, 20, 30, 40, 50)


def rows_of(curves):
    """Return result rows of ``{arm: (curve of seed 0, curve of seed 1, ...)}`` at 10, 20, ... images."""
    return [
        {"arm": arm, "seed": seed, "cycle": cycle, "images": n, "boxes": 3 * n, "ap50": value}
        for arm, seeds in curves.items()
        for seed, values in enumerate(seeds)
        for cycle, (n, value) in enumerate(zip(IMAGES, values, strict=False))
    ]


def saved(reference, arm, **key):
    return labels_saved(rows_of({"random": reference, "miaod": arm}), "random", **key)["miaod"]


def test_labels_saved_by_hand():
    # random ends at 0.5 with 50 images; miaod has it halfway between 20 (0.4) and 30 (0.6): 25 of 50 images
    one = saved([(0.1, 0.2, 0.3, 0.4, 0.5)], [(0.1, 0.4, 0.6, 0.7, 0.8)])
    assert one == pytest.approx(
        {"n": 1, "never": 0, "at_start": 0, "target": 0.5, "images": 25, "saved": 0.5, "low": None, "high": None}
    )
    boxes = saved([(0.1, 0.2, 0.3, 0.4, 0.5)], [(0.1, 0.4, 0.6, 0.7, 0.8)], x="boxes")
    assert (boxes["boxes"], boxes["saved"]) == pytest.approx((75, 0.5))


def test_a_reference_that_falls_at_its_end_saves_nothing_over_itself():
    # monotone: 0.1, 0.3, 0.4, 0.4, 0.4, there from 30 images on; its last value 0.3 was there at 20 already
    falling = [(0.1, 0.3, 0.5, 0.4, 0.3)]
    result = labels_saved(rows_of({"random": falling, "miaod": [(0.1, 0.4, 0.5, 0.6, 0.7)]}), "random")
    assert result["random"] == pytest.approx(
        {"n": 1, "never": 0, "at_start": 0, "target": 0.4, "images": 30, "saved": 0, "low": None, "high": None}
    )
    assert (result["miaod"]["images"], result["miaod"]["saved"]) == pytest.approx((20, 1 / 3))


def test_a_peak_of_the_arm_that_does_not_last_is_no_saving():
    # monotone: 0.1, 0.3, 0.3, 0.3, 0.4, so that 0.35 is reached halfway between 40 and 50 and not at the peak
    one = saved([(0.1, 0.15, 0.2, 0.3, 0.35)], [(0.1, 0.5, 0.2, 0.2, 0.4)])
    assert (one["images"], one["saved"]) == pytest.approx((45, 0.1))


def test_an_arm_that_needs_more_labels_has_a_negative_saving():
    # random stops rising at 20 images, miaod has the same at 40
    one = saved([(0.1, 0.5, 0.5, 0.5, 0.5)], [(0.1, 0.2, 0.3, 0.5, 0.6)])
    assert (one["images"], one["saved"]) == pytest.approx((40, -1))


def test_noise_never_makes_the_reference_save_labels_over_itself():
    chance = np.random.default_rng(0)
    noisy = [0.5 + 0.05 * chance.standard_normal(5) for _ in range(100)]
    alone = [labels_saved(rows_of({"random": [curve]}), "random")["random"] for curve in noisy]
    assert {one["saved"] for one in alone} == {0.0, None}  # None: monotone the curve is constant
    assert all((one["at_start"] == 1) == (one["saved"] is None) for one in alone)


def test_where_a_curve_begins_above_the_target_the_need_is_unknown():
    above = saved([(0.1, 0.2, 0.3, 0.3, 0.35)], [(0.4, 0.5, 0.6, 0.7, 0.8)])
    assert (above["at_start"], above["never"], above["images"], above["saved"]) == (1, 0, None, None)
    assert saving(above, "images") == ("from the start", "\N{EN DASH}", "")


def test_a_reference_that_ends_no_higher_than_it_begins_gives_no_saving():
    # monotone it is constant: nothing was learnt that labels could be saved for
    falls = [(0.5, 0.4, 0.3, 0.2, 0.1)]
    result = labels_saved(rows_of({"random": falls, "miaod": [(0.1, 0.2, 0.3, 0.4, 0.5)]}), "random")
    assert (result["random"]["saved"], result["random"]["at_start"]) == (None, 1)
    assert (result["miaod"]["saved"], result["miaod"]["at_start"]) == (None, 1)


def test_an_arm_that_never_gets_there_saves_nothing():
    never = saved([(0.1, 0.2, 0.3, 0.4, 0.5)], [(0.1, 0.2, 0.3, 0.3, 0.3)])
    assert (never["never"], never["images"], never["saved"]) == (1, None, None)
    assert saving(never, "images") == ("not reached", "\N{EN DASH}", "")


def test_the_interval_is_students_over_seeds_paired_by_seed():
    random = [(0.1, 0.2, 0.3, 0.4, 0.5), (0.2, 0.3, 0.4, 0.5, 0.6), (0.0, 0.1, 0.2, 0.3, 0.4)]
    miaod = [(0.1, 0.5, 0.6, 0.7, 0.8), (0.2, 0.4, 0.6, 0.7, 0.8), (0.0, 0.2, 0.3, 0.4, 0.5)]
    one = saved(random, miaod)  # against its own seed: at 20, 30 and 40 of 50 images
    shares = [0.6, 0.4, 0.2]
    low, high = stats.t.interval(0.95, 2, np.mean(shares), stats.sem(shares))
    assert (one["images"], one["saved"], one["low"], one["high"]) == pytest.approx((30, 0.4, low, high))
    assert saving(one, "images") == ("30", "40 %", "\N{MINUS SIGN}10 to 90")


def test_nobody_saves_more_than_everything():
    random = [(0.1, 0.2, 0.3, 0.4, 0.5)] * 3
    one = saved(random, [(0.1, 0.6, 0.6, 0.6, 0.6), (0.1, 0.2, 0.3, 0.45, 0.5), (0.1, 0.2, 0.3, 0.45, 0.5)])
    assert one["low"] < 0 and one["high"] == 1


def test_one_seed_that_does_not_get_there_leaves_no_mean_over_the_others():
    random = [(0.1, 0.2, 0.3, 0.4, 0.5)] * 3
    some = saved(random, [(0.1, 0.5, 0.6, 0.7, 0.8), (0.1, 0.5, 0.6, 0.7, 0.8), (0.1, 0.2, 0.3, 0.3, 0.3)])
    assert (some["n"], some["never"], some["saved"], some["low"]) == (3, 1, None, None)
    assert saving(some, "images") == ("not reached in 1 of 3 seeds", "\N{EN DASH}", "")


def test_an_unfinished_curve_does_not_count():
    rows = rows_of({"random": [(0.1, 0.2, 0.3, 0.4, 0.5)] * 2, "miaod": [(0.1, 0.5, 0.6, 0.7, 0.8), (0.1, 0.5)]})
    one = labels_saved(rows, "random")["miaod"]
    assert (one["n"], one["saved"], one["low"]) == (1, pytest.approx(0.6), None)
    early = labels_saved([row for row in rows if row["cycle"] == 0], "random")["miaod"]
    assert (early["n"], early["target"], early["saved"]) == (0, None, None)
    assert saving(early, "images") == ("\N{EN DASH}", "\N{EN DASH}", "")


def test_cycles_that_added_no_box_do_not_divide_by_zero():
    rows = [row | {"boxes": 0} for row in rows_of({"random": [(0.1, 0.5, 0.5)], "miaod": [(0.1, 0.5, 0.5)]})]
    assert labels_saved(rows, "random", x="boxes")["miaod"]["saved"] is None


def test_a_reference_that_has_failed_altogether_gives_no_labels_saved():
    rows = rows_of({"random": [(None, None)], "miaod": [(0.1, float("nan")), (0.1, 0.2)]})
    assert labels_saved(rows, "random")["miaod"] | {"n": 0} == labels_saved(rows, "random")["random"]
    assert json.dumps(labels_saved(rows, "random"), allow_nan=False)


def test_unknown_reference_arm_is_named():
    with pytest.raises(ConfigError, match=r"no arm 'randon'; did you mean 'random'\?"):
        labels_saved(rows_of({"random": [(0.1, 0.2)]}), reference="randon")


def test_first_reach_takes_the_first_crossing():
    assert first_reach([(10, 0.1), (20, 0.5), (30, 0.2)], 0.3) == 15
    assert first_reach([(10, 0.4), (20, 0.5)], 0.3) == 10
    assert first_reach([(10, 0.1), (20, 0.2)], 0.3) is None
