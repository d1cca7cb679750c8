"""Stopping rules, on rounds whose answers are known."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from sklearn.base import clone

from miaod_plugin.errors import MiaodError
from miaod_plugin.registry import STOPPING_RULES, find, registered
from miaod_plugin.stopping import (
    LearningCurve,
    OverallUncertainty,
    PredictedGain,
    Round,
    SpentBudget,
    StabilisedPredictions,
    agreement,
    uncertainty,
)

IMAGES = [100, 200, 300, 400, 500, 600, 700]


def power_law(n, a=0.8, b=3.0, c=0.5):
    return a - b * np.asarray(n, dtype=float) ** -c


def rounds_of(scores, images=IMAGES, **more):
    return [
        Round(n, score=score, **{name: values[row] for name, values in more.items()})
        for row, (n, score) in enumerate(zip(images, scores, strict=False))
    ]


def found(*boxes, scores=None, labels=None):
    n = len(boxes)
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(labels or [0] * n),
        "scores": np.array(scores or [0.9] * n),
    }


def test_a_curve_that_is_a_power_law_is_continued_as_one():
    curve = LearningCurve(IMAGES, power_law(IMAGES))
    gain, truth = curve.gain(100), power_law(800) - power_law(700)
    assert gain.low < truth < gain.high and gain.mean == pytest.approx(truth, abs=0.003)
    later = curve.score_at(1400)
    assert later.low < power_law(1400) < later.high and later.mean == pytest.approx(power_law(1400), abs=0.02)


def test_the_expected_gain_is_near_that_of_the_best_fit():
    rng = np.random.default_rng(0)
    noisy = power_law(IMAGES) + rng.normal(0, 0.004, len(IMAGES))
    best, _ = curve_fit(power_law, IMAGES, noisy, p0=(0.8, 3.0, 0.5), bounds=([0, 0, 0.05], [1.5, 50, 2]))
    expected = power_law(1000, *best) - power_law(700, *best)
    assert LearningCurve(IMAGES, noisy).gain(300).mean == pytest.approx(expected, abs=0.006)


def test_the_interval_of_the_score_holds_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        truth = {"a": rng.uniform(0.5, 0.9), "b": rng.uniform(1, 4), "c": rng.uniform(0.3, 1)}
        noisy = power_law(IMAGES, **truth) + rng.normal(0, 0.01, len(IMAGES))
        ends = LearningCurve(IMAGES, noisy).score_at(900)
        hits += ends.low <= power_law(900, **truth) <= ends.high
    assert 0.9 <= hits / 200 <= 1


def test_a_flat_or_falling_curve_promises_nothing():
    for scores in ([0.5] * 7, [0.6, 0.58, 0.57, 0.55, 0.54, 0.52, 0.5]):
        gain = LearningCurve(IMAGES, scores).gain(100)
        assert 0 <= gain.low <= gain.mean < 0.002


def test_fewer_points_and_more_noise_know_less():
    def width(images, scores):
        ends = LearningCurve(images, scores).score_at(1000)
        return ends.high - ends.low

    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.02, len(IMAGES))
    assert width(IMAGES[:4], power_law(IMAGES[:4])) > width(IMAGES, power_law(IMAGES))
    assert width(IMAGES, power_law(IMAGES) + noise) > width(IMAGES, power_law(IMAGES))


@pytest.mark.parametrize("images", [[100, 200], [100, 200, 200], [300, 200, 100], [0, 100, 200]])
def test_a_curve_needs_three_rising_rounds(images):
    with pytest.raises(MiaodError, match="needs 3 rounds"):
        LearningCurve(images, [0.1] * len(images))


def test_the_predicted_gain_stops_where_the_curve_flattens():
    steep, flat = [0.1, 0.3, 0.45, 0.55, 0.62], [0.5, 0.6, 0.605, 0.607, 0.608]
    assert PredictedGain(0.01).stop(rounds_of(steep)) is None
    assert PredictedGain(0.01).stop(rounds_of(flat)) == 4
    assert PredictedGain(0.01).reason(rounds_of(flat)).startswith("100 more images are expected to add 0.")
    assert PredictedGain(0.2).stop(rounds_of(steep)) == 3  # not before four rounds are scored
    assert PredictedGain(0.2, images=100_000).stop(rounds_of(steep)) is None


def test_rounds_that_brought_no_image_count_as_one():
    flat = rounds_of([0.5, 0.58, 0.6, 0.605, 0.6, 0.607], images=[100, 200, 300, 300, 400, 500])
    alone = rounds_of([0.5, 0.58, 0.605, 0.6, 0.607], images=[100, 200, 300, 400, 500])
    assert LearningCurve.of(flat).gain(100) == LearningCurve.of(alone).gain(100)
    assert PredictedGain(0.02).stop(flat) == PredictedGain(0.02).stop(alone) + 1
    assert LearningCurve.of(rounds_of([0.5, 0.6, 0.6, 0.6], images=[100, 200, 200, 200])) is None
    assert PredictedGain(0.02).stop(rounds_of([0.5] * 6, images=[100] * 6)) is None


def test_a_model_that_has_learned_nothing_yet_is_no_reason_to_stop():
    assert PredictedGain(0.01).stop(rounds_of([0.0, 0.0, 0.005, 0.01, 0.01])) is None
    assert PredictedGain(0.01).stop(rounds_of([0.02, 0.02, 0.02, 0.02, 0.02])) is not None


def test_rounds_without_a_score_are_left_out_of_the_curve():
    flat = [None, 0.5, 0.55, None, 0.551, 0.549]
    assert PredictedGain(0.01).stop(rounds_of(flat)) == 5


def test_predictions_are_stable_when_their_agreement_rises_no_more():
    rounds = rounds_of([0.5] * 6, agreement=[None, 0.3, 0.5, 0.51, 0.57, 0.56])
    assert StabilisedPredictions(0.02, rounds=1).stop(rounds) == 3  # 0.50 to 0.51
    assert StabilisedPredictions(0.04, rounds=2).stop(rounds) == 4  # 0.50 to 0.57 in two
    over_three = StabilisedPredictions(0.025, rounds=3)  # 0.50 to 0.56 in three
    assert over_three.stop(rounds) == 5
    assert "agree by 0.56 with those of the round before, and 3 rounds ago they did by 0.50" in over_three.reason(
        rounds
    )
    assert StabilisedPredictions(0.02, rounds=4).stop(rounds) is None


def test_the_curve_looks_at_the_latest_rounds():
    early = [0.0, 0.4, 0.41, 0.41, 0.41, 0.41, 0.41]
    assert LearningCurve(IMAGES, early).gain(100).mean < LearningCurve(IMAGES, early, latest=7).gain(100).mean
    assert LearningCurve(IMAGES, early).gain(100) == LearningCurve(IMAGES[2:], early[2:]).gain(100)


def test_uncertainty_stops_at_a_share_of_where_it_began():
    rounds = rounds_of([0.5] * 4, uncertainty=[0.6, 0.4, 0.31, 0.29])
    assert OverallUncertainty(0.5).stop(rounds) == 3 and OverallUncertainty(0.4).stop(rounds) is None
    assert "48% of the first" in OverallUncertainty(0.5).reason(rounds)
    assert OverallUncertainty(0.5).stop(rounds_of([0.5] * 3, uncertainty=[None, 0.0, 0.0])) is None


def test_a_budget_stops_when_it_is_spent():
    rounds = [Round(10, cost=4.5), Round(20, cost=9.0), Round(30, cost=12.5)]
    assert SpentBudget(9).stop(rounds) == 1 and SpentBudget(20).stop(rounds) is None
    assert SpentBudget(9).reason(rounds[:2]) == "the budget of 9 is spent (9)"


@pytest.mark.parametrize("name", registered(STOPPING_RULES))
def test_every_rule_is_an_estimator_that_goes_on_while_nothing_is_known(name):
    rule = clone(find(STOPPING_RULES, name)(**({"most": 5} if name == "budget" else {})))
    assert rule.stop([]) is None and rule.stop([Round(10)] * 6) is None


def test_detectors_agree_by_the_f1_of_their_detections():
    one = [found([0, 0, 10, 10], [20, 20, 30, 30]), found([5, 5, 9, 9])]
    assert agreement(one, one) == 1.0
    other = [found([0, 0, 10, 9], [50, 50, 60, 60]), found()]  # one pair of 3 + 2 detections
    assert agreement(one, other) == pytest.approx(2 / 5)
    assert agreement([found([0, 0, 9, 9])], [found([0, 0, 9, 9], labels=[1])]) == 0
    assert agreement([found([0, 0, 9, 9], scores=[0.2])], [found()]) is None  # too faint to count


def test_a_detection_is_paired_once_and_the_most_pairs_are_found():
    one = [found([0, 0, 10, 10], [2, 0, 12, 10])]
    other = [found([2, 0, 12, 10], [5, 0, 15, 10])]  # greedily, the second could take the first's only partner
    assert agreement(one, other) == 1.0 == agreement(other, one)
    assert agreement([found([0, 0, 10, 10])], [found([0, 0, 10, 10], [0, 0, 10, 10])]) == pytest.approx(2 / 3)


def test_uncertainty_is_the_mean_of_the_images_largest_entropies():
    images = [found([0, 0, 1, 1], [0, 0, 1, 1], scores=[0.5, 0.99]), found([0, 0, 1, 1], scores=[0.1]), found()]
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    assert uncertainty(images) == pytest.approx((np.log(2) + entropy) / 3)
    assert uncertainty([]) is None


def test_a_round_without_more_images_does_not_let_the_next_one_look_small():
    scores = power_law(IMAGES)
    rounds = [Round(n, score=score) for n, score in zip(IMAGES, scores, strict=True)]
    again = [*rounds, Round(IMAGES[-1], score=scores[-1])]
    gain = LearningCurve.of(rounds).gain(100).mean
    assert PredictedGain(least=gain - 1e-6).reason(again) is None
    assert PredictedGain(least=gain + 1e-6).reason(again).startswith("100 more images")
