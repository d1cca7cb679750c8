"""What the charts of a report show, on the page and in files."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from page_reader import Page
from pages import ARMS

from miaod_plugin.experiments.report.comparison import Comparison, compare_runs
from miaod_plugin.experiments.report.statistics import describe


def bars_of(page: Page) -> list[int]:
    """Return of how many lines each bar of the page's charts is made: three with both caps, fewer beyond the frame."""
    return [bar.count("<line") for bar in re.findall(r'<g class="interval".*?</g>', page.source)]


def test_the_bars_of_few_seeds_are_their_range_and_stay_in_the_chart(scored):
    page = Page(scored / "report.html")
    assert set(bars_of(page)) == {3}
    assert (
        "bars reach from the lowest seed to the highest" in page.text
        and "dots are the seeds, bars their range" in page.text
    )
    assert "Ranges" in page.text and "Intervals" not in page.text
    assert "mean and range of 4 seeds" in (scored / "curves.svg").read_text(encoding="utf-8")


def test_the_bars_of_five_seeds_are_students_intervals():
    rows = [
        {"arm": "a", "seed": seed, "cycle": cycle, "images": 10 + cycle, "ap50": 0.1 * seed + 0.01 * cycle}
        for seed in range(5)
        for cycle in range(2)
    ]
    five = Comparison(rows, "ap50", "a", describe([]))
    first = five.table()["a"][0]
    assert not five.few and five.spread(first) == (first["low"], first["high"])
    four = Comparison(rows[:8], "ap50", "a", describe([]))
    assert four.few and four.spread(four.table()["a"][0]) == (0.0, pytest.approx(0.3))


def test_one_arm_of_few_seeds_makes_all_bars_ranges_so_that_they_can_be_compared():
    rows = [
        {"arm": arm, "seed": seed, "cycle": 0, "images": 10, "ap50": 0.1 * seed}
        for arm, n_seeds in (("a", 6), ("b", 3))
        for seed in range(n_seeds)
    ]
    mixed = Comparison(rows, "ap50", "a", describe([]))
    assert mixed.few and mixed.seeds_words == "3 to 6 seeds"
    assert mixed.spread(mixed.table()["a"][0]) == pytest.approx((0.0, 0.5))
    assert Comparison(rows[:6], "ap50", "a", describe([])).seeds_words == "6 seeds"


def test_runs_drawn_together_share_no_full_supervision_that_is_one_runs_own():
    row = {"arm": "a", "seed": 0, "cycle": 0, "images": 10, "ap50": 0.1}
    one, other = (Comparison([row], "ap50", "a", describe([full])) for full in (0.5, 0.6))
    assert compare_runs({"one": one, "other": other}, "one: a").full["mean"] is None
    assert compare_runs({"one": one, "again": one}, "one: a").full["mean"] == 0.5


def test_names_stand_at_the_ends_of_the_curves_and_do_not_touch(scored):
    curves = re.search(r'<div class="wide">(<svg.*?</svg>)', Page(scored / "report.html").source, re.DOTALL)[1]
    texts = ElementTree.fromstring(curves.replace("&#34;", "")).iter("text")
    heights = {text.text: float(text.get("y")) for text in texts if text.text in ARMS}
    assert heights.keys() == set(ARMS)
    assert np.diff(sorted(heights.values())).min() >= 15 and 30 < min(heights.values()) < max(heights.values()) < 365
