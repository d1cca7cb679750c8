"""The statistics of an experiment against scipy and against numbers worked out by hand."""

import json

import numpy as np
import pytest
from scipy import stats

from miaod_plugin.errors import ConfigError, MiaodError
from miaod_plugin.experiments.report.statistics import (
    area_under_curve,
    areas,
    budget_table,
    class_balance,
    class_counts,
    describe,
    holm,
    overlap,
    paired_difference,
    paired_table,
    seeds_note,
)

AP50 = {  # arm -> seed -> AP50 at 10, 20 and 40 images
    "random": {0: (0.10, 0.20, 0.30), 1: (0.12, 0.22, 0.34), 2: (0.08, 0.24, 0.32)},
    "miaod": {0: (0.10, 0.30, 0.40), 1: (0.12, 0.28, 0.44), 2: (0.08, 0.32, 0.36)},
}


def table(ap50=AP50, boxes_per_image=None):
    boxes = boxes_per_image or {}
    return [
        {"arm": arm, "seed": seed, "cycle": cycle, "images": n, "boxes": n * boxes.get(arm, 2), "ap50": value}
        for arm, seeds in ap50.items()
        for seed, values in seeds.items()
        for cycle, (n, value) in enumerate(zip((10, 20, 40), values, strict=False))
    ]


def row_of(rows, **key):
    (row,) = [row for row in rows if key.items() <= row.items()]
    return row


def test_description_equals_scipy():
    values = [0.30, 0.34, 0.32, 0.41]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    expected = {"n": 4, "mean": np.mean(values), "sd": stats.tstd(values), "low": low, "high": high, "few": True}
    assert describe(values) == pytest.approx(expected | {"least": 0.30, "most": 0.41})


def test_interval_by_hand():
    # mean 0.32, sd 0.02, t(0.975, 2) = 4.302653, half width 4.302653 * 0.02 / sqrt(3) = 0.0496828
    summary = describe([0.30, 0.34, 0.32])
    assert (summary["mean"], summary["sd"]) == pytest.approx((0.32, 0.02))
    assert (summary["low"], summary["high"]) == pytest.approx((0.2703172, 0.3696828), abs=1e-7)


def test_one_seed_has_no_interval_and_says_so():
    one = {"n": 1, "mean": 0.3, "sd": None, "low": None, "high": None, "least": 0.3, "most": 0.3, "few": True}
    assert describe([0.3]) == one
    assert describe([])["mean"] is None
    assert seeds_note(1) == "1 seed: no interval or test"
    assert seeds_note(2) == "2 seeds: no interval or test"
    assert seeds_note(3) == "only 3 seeds: read intervals and p-values with care"
    assert seeds_note(5) is None and not describe([0.1] * 5)["few"]


def test_two_seeds_have_a_deviation_but_no_interval_as_it_would_hide_every_difference():
    two = describe([0.30, 0.34])
    assert (two["low"], two["high"], two["least"], two["most"]) == (None, None, 0.30, 0.34)
    assert two["sd"] == pytest.approx(0.0282843, abs=1e-7)


def test_budget_table_describes_each_arm_and_cycle():
    result = budget_table(table(), full=0.8)
    assert [(row["arm"], row["cycle"], row["images"]) for row in result] == [
        (arm, cycle, n) for arm in AP50 for cycle, n in enumerate((10, 20, 40))
    ]
    last = row_of(result, arm="miaod", cycle=2)
    assert (last["mean"], last["ratio"], last["n"]) == pytest.approx((0.4, 0.5, 3))
    assert row_of(budget_table(table()), arm="miaod", cycle=2)["ratio"] is None


def test_failed_cells_are_left_out():
    rows = table()
    rows[2]["ap50"], rows[5]["ap50"] = None, float("nan")  # the last cycle of random, seeds 0 and 1
    last = row_of(budget_table(rows), arm="random", cycle=2)
    assert (last["n"], last["mean"], last["sd"]) == (1, 0.32, None)
    assert areas(rows)["random"].keys() == {2} and areas(rows)["miaod"].keys() == {0, 1, 2}


def test_area_by_hand():
    # (10 * 0.15 + 20 * 0.25) / 30
    assert area_under_curve([10, 20, 40], [0.1, 0.2, 0.3]) == pytest.approx(6.5 / 30)
    assert area_under_curve([1, 2, 9], [0.4, 0.4, 0.4]) == pytest.approx(0.4)
    # from 15 (0.15) over 20 (0.2) to 30 (0.25): (5 * 0.175 + 10 * 0.225) / 15
    assert area_under_curve([10, 20, 40], [0.1, 0.2, 0.3], limits=(15, 30)) == pytest.approx(3.125 / 15)


def test_area_allows_a_cycle_that_added_no_label():
    # images without any box were picked at the second cycle: (10 * 0.25) / 10
    assert area_under_curve([10, 10, 20], [0.1, 0.2, 0.3]) == pytest.approx(0.25)
    # nothing was left to pick at the last cycle: (10 * 0.15) / 10
    assert area_under_curve([10, 20, 20], [0.1, 0.2, 0.9]) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("x", "limits", "message"),
    [
        ([1], None, "needs two"),
        ([2, 1], None, "x=.2.0, 1.0."),
        ([3, 3], None, "x="),
        ([1, 2], (1, 3), r"limits=\(1, 3\)"),
    ],
)
def test_area_refuses_what_is_no_curve(x, limits, message):
    with pytest.raises(MiaodError, match=message):
        area_under_curve(x, x, limits)


def test_areas_over_boxes_compare_the_shared_range():
    flat = {"few": {0: (0.1, 0.2, 0.3)}, "many": {0: (0.1, 0.2, 0.3)}}
    result = areas(table(flat, boxes_per_image={"few": 1, "many": 2}), x="boxes")
    # boxes 10, 20, 40 and 20, 40, 80 share 20..40
    assert result == {"few": {0: pytest.approx(0.25)}, "many": {0: pytest.approx(0.15)}}


def test_areas_of_a_single_cycle_are_missing():
    assert areas(table({"random": {0: (0.1,)}})) == {"random": {}}


def test_areas_of_two_arms_are_compared_over_what_both_cover_whatever_a_third_does():
    flat = {arm: {seed: (0.1, 0.2, 0.3 + seed / 10) for seed in range(3)} for arm in ("random", "few", "fewest")}
    boxes = {"random": 4, "few": 2, "fewest": 0.5}
    rows = table(flat, boxes_per_image=boxes)
    two = paired_table([row for row in rows if row["arm"] != "fewest"], "random", x="boxes")
    of_three = row_of(paired_table(rows, "random", x="boxes"), arm="few", cycle="area")
    assert of_three["mean"] == row_of(two, cycle="area")["mean"] and of_three["mean"] > 0


def test_paired_table_equals_scipy():
    result = paired_table(table(), reference="random")
    assert {row["arm"] for row in result} == {"miaod"}
    for cycle in (1, 2):
        a, b = ([AP50[arm][seed][cycle] for seed in range(3)] for arm in ("miaod", "random"))
        expected = stats.ttest_rel(a, b)
        low, high = expected.confidence_interval(0.95)
        row = row_of(result, cycle=cycle)
        assert [row[key] for key in ("n", "mean", "low", "high", "p_value")] == pytest.approx(
            [3, np.mean(a) - np.mean(b), low, high, expected.pvalue]
        )
    area = row_of(result, cycle="area")
    by_seed = areas(table())
    expected = stats.ttest_rel(list(by_seed["miaod"].values()), list(by_seed["random"].values()))
    assert area["p_value"] == pytest.approx(expected.pvalue)
    assert area["mean"] == pytest.approx(np.mean([by_seed["miaod"][s] - by_seed["random"][s] for s in range(3)]))


def test_shared_first_model_differs_by_zero_without_a_p_value(recwarn):
    row = row_of(paired_table(table(), reference="random"), cycle=0)
    assert (row["mean"], row["low"], row["high"], row["p_value"]) == (0.0, 0.0, 0.0, None)
    assert not recwarn.list


def test_differences_that_are_equal_but_for_rounding_have_no_p_value():
    assert paired_difference({0: 0.3, 1: 0.4, 2: 0.9}, {0: 0.2, 1: 0.3, 2: 0.8})["p_value"] is None


def test_pairs_are_matched_by_seed_and_a_test_needs_three():
    difference = paired_difference({0: 0.5, 1: 0.4, 7: 0.9}, {1: 0.1, 0: 0.3, 8: 0.0})
    assert (difference["n"], difference["mean"], difference["p_value"]) == (2, pytest.approx(0.25), None)
    assert difference["values"] == pytest.approx([0.2, 0.3])
    one = paired_difference({0: 0.5}, {0: 0.25, 1: 0.4})
    assert (one["n"], one["mean"], one["low"], one["p_value"]) == (1, 0.25, None, None)
    none = paired_difference({0: 0.5}, {1: 0.4})
    assert (none["n"], none["mean"], none["p_value"]) == (0, None, None)


def test_holms_correction_by_hand():
    # of four tests: .01 * 4, .02 * 3, .03 * 2 = .06 and no less than .06, .5 * 1; what was not tested does not count
    assert holm([0.02, None, 0.5, 0.01, 0.03]) == [pytest.approx(0.06), None, 0.5, 0.04, pytest.approx(0.06)]
    # .04 * 2 = .08, and .05 * 1 no less than that; .6 * 2 no more than 1
    assert holm([0.04, 0.05]) == [0.08, 0.08] and holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.3]) == [0.3] and holm([None]) == [None] and holm([]) == []


def test_areas_are_one_family_of_tests_and_the_cycles_after_the_first_another():
    arms = {
        "entropy": {0: (0.1, 0.25, 0.37), 1: (0.2, 0.21, 0.36), 2: (0.3, 0.27, 0.35)},
        "coreset": {0: (0.2, 0.2, 0.35), 1: (0.1, 0.3, 0.42), 2: (0.4, 0.31, 0.3)},
    }
    result = paired_table(table(AP50 | arms), reference="random")
    for family, cycles in ((3, ["area"]), (6, [1, 2])):
        rows = [row for row in result if row["cycle"] in cycles]
        least, most = (choose(rows, key=lambda row: row["p_value"]) for choose in (min, max))
        assert least["p_holm"] == pytest.approx(family * least["p_value"])
        assert least["p_holm"] <= most["p_holm"] == max(row["p_holm"] for row in rows)
    assert [row["p_holm"] for row in result if row["cycle"] == 0] == [None] * 3
    assert row_of(result, arm="coreset", cycle=0)["p_value"] is not None, "training may differ before any selection"


def test_unknown_reference_arm_is_named():
    with pytest.raises(ConfigError, match=r"no arm 'randon'; did you mean 'random'\?"):
        paired_table(table(), reference="randon")


def test_a_reference_that_has_failed_altogether_gives_no_differences():
    rows = [row | {"ap50": None} if row["arm"] == "random" else row for row in table()]
    assert {row["p_value"] for row in paired_table(rows, reference="random")} == {None}


def test_class_balance_of_the_pool_itself_is_zero():
    assert class_balance([3, 6, 9], [30, 60, 90], smoothing=0)["kl"] == pytest.approx(0)


def test_class_balance_by_hand_with_a_class_never_selected():
    result = class_balance([3, 0], [1, 1])  # smoothed: (4/5, 1/5) against (1/2, 1/2)
    assert result["share"] == pytest.approx([0.8, 0.2])
    assert result["pool_share"] == pytest.approx([0.5, 0.5])
    assert result["kl"] == pytest.approx(0.8 * np.log(1.6) + 0.2 * np.log(0.4))


def test_class_counts_of_images_with_and_without_boxes():
    targets = [{"labels": np.array([0, 2, 2])}, {"labels": np.zeros(0, np.int64)}, {"labels": np.array([2])}]
    assert class_counts(targets, 4) == [1, 0, 3, 0]
    assert class_counts([], 2) == [0, 0]


def test_overlap_leaves_the_initial_set_out():
    labelled = {
        "random": [["s"], ["s", "a", "b"], ["s", "a", "b", "c", "d"]],
        "miaod": [["s"], ["s", "b", "c"], ["s", "b", "c", "d", "e"]],
        "entropy": [["s"], ["s", "x", "y"]],
    }
    two = overlap({arm: labelled[arm] for arm in ("random", "miaod")}, initial=["s"])
    assert [row["jaccard"] for row in two] == [None, pytest.approx(1 / 3), pytest.approx(3 / 5)]
    three = overlap(labelled, initial=["s"])
    assert len(three) == 2 * 3  # the two cycles that all three have
    assert row_of(three, cycle=1, arm="miaod", other="entropy")["jaccard"] == 0


def test_results_can_be_written_as_strict_json():
    rows = table()
    for result in (
        budget_table(rows, full=0.8),
        paired_table(rows, "random"),
        areas(rows),
    ):
        assert json.loads(json.dumps(result, allow_nan=False))


def test_no_rows_give_empty_tables():
    assert budget_table([]) == [] and areas([]) == {}
