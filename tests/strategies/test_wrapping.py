"""Strategies around another one: utility for its cost, and rare classes first."""

import numpy as np
import pytest
from by_hand import trained
from sklearn.base import clone

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.data import load_folder, make_digit_scenes
from miaod_plugin.data.images import store_image
from miaod_plugin.errors import ConfigError
from miaod_plugin.mil.training import MIAOD
from miaod_plugin.ranking.patient import PatientDetector
from miaod_plugin.ranking.row_file import RowFile
from miaod_plugin.strategies import (
    ClassBalancedSampling,
    CoreSetSampling,
    CostAwareSampling,
    EntropySampling,
    MIAODSampling,
    RandomSampling,
)

DATA = make_digit_scenes(32, n_classes=4, random_state=6)
START, POOL = DATA.X[:12], DATA.X[12:]
INSIDE = [None, EntropySampling(aggregate="sum"), CoreSetSampling(), RandomSampling(random_state=3)]


@pytest.fixture(scope="module")
def detector():
    return trained(DATA, 12, steps=120)


def expected_by_hand(detector):
    """Return the sum of the scores of each class in each image of the pool."""
    rows = np.zeros((len(POOL), 4))
    for row, found in zip(rows, detector.predict(POOL), strict=True):
        for label, score in zip(found["labels"], found["scores"].astype(float), strict=True):
            row[label] += score
    return rows


@pytest.mark.parametrize("inside", INSIDE)
def test_utility_for_its_cost_divides_by_the_seconds_that_boxes_to_be_expected_take(detector, inside):
    utilities = (inside or EntropySampling()).utilities(detector, POOL)
    seconds = 7.8 + 25.5 * expected_by_hand(detector).sum(axis=1)
    np.testing.assert_allclose(CostAwareSampling(inside).utilities(detector, POOL), utilities / seconds, rtol=1e-6)
    equal = CostAwareSampling(inside, per_image=1, per_box=0).query(detector, POOL, 20)[1]
    np.testing.assert_allclose(equal, np.sort(utilities)[::-1], rtol=1e-6)


@pytest.mark.parametrize("inside", INSIDE)
def test_the_most_informative_image_that_shows_the_rarest_class_comes_first(detector, inside):
    utilities, expected = (inside or EntropySampling()).utilities(detector, POOL), expected_by_hand(detector)
    counts = np.bincount(np.concatenate([target["labels"] for target in DATA.y[:12]]), minlength=4).astype(float)
    chosen = []
    for _ in range(20):
        left = sorted(set(range(20)) - set(chosen), key=lambda row: (-utilities[row], row))
        for label in sorted(range(4), key=lambda label: counts[label]):
            showing = [row for row in left if expected[row, label] >= 0.5]
            if showing:
                break
        chosen.append((showing or left)[0])
        counts += expected[chosen[-1]]
    indices, shown = ClassBalancedSampling(inside).query(detector, POOL, 20)
    assert indices.tolist() == chosen
    assert inside is not None or chosen != np.argsort(-utilities, kind="stable").tolist()
    np.testing.assert_allclose(shown, np.minimum.accumulate(utilities[chosen]), rtol=1e-6)


@pytest.mark.parametrize("wrapper", [CostAwareSampling, ClassBalancedSampling])
def test_what_is_inside_is_cloned_set_and_checked_through_its_wrapper(wrapper):
    strategy = clone(wrapper(MIAODSampling(top_k=5))).set_params(strategy__top_k=0.5)
    assert strategy.strategy.top_k == 0.5 and strategy.trained_by is MIAOD and strategy.adapts_by == "strategy__adapt"
    assert strategy.set_params(strategy__adapt=False).strategy.adapt is False
    estimator = ObjectDetector("retinanet_tiny", DATA.classes, max_steps=1, random_state=0).fit(START[:2], DATA.y[:2])
    with pytest.raises(ConfigError, match="needs a detector trained by MIAOD, not by Supervised"):
        strategy.query(estimator, POOL, 1)
    with pytest.raises(ConfigError, match="strategy: 'entropy' is not allowed"):
        wrapper("entropy").query(estimator, POOL, 1)
    drawn = [wrapper(RandomSampling(), random_state=seed).query(estimator, POOL, 3)[0].tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_estimator_is_prepared_as_the_strategy_inside_wants():
    settings = {"max_steps": 20, "random_state": 0, "device": "cpu"}
    estimator = MIAODDetector("retinanet_tiny", DATA.classes, **settings).fit(START[:4], DATA.y[:4])
    strategy = CostAwareSampling(MIAODSampling())
    adapted = strategy.query(estimator, POOL, 20)[1]
    as_it_is = strategy.set_params(strategy__adapt=False).query(estimator, POOL, 20)[1]
    assert not np.allclose(adapted, as_it_is)
    assert strategy.preparing_steps(estimator, 4) == 0
    assert CostAwareSampling(MIAODSampling()).preparing_steps(estimator, 4) > 0


@pytest.mark.parametrize("inside", [EntropySampling(), CoreSetSampling()])
@pytest.mark.parametrize("wrapper", [CostAwareSampling, ClassBalancedSampling])
def test_rows_that_were_kept_need_no_second_look(detector, tmp_path, wrapper, inside):
    for k, image in enumerate(POOL[:6]):
        store_image(image, tmp_path / "images" / str(k))
    images, seen = load_folder(tmp_path / "images").X, []
    for _ in range(2):
        patient = PatientDetector(detector, RowFile(tmp_path / "rows", "key"), lambda *count: seen.append(count))
        answer = wrapper(inside).query(patient, images, 3, labeled=(images[:2], DATA.y[:2]))
    expected = wrapper(inside).query(detector, images, 3, labeled=(images[:2], DATA.y[:2]))
    np.testing.assert_array_equal(answer[0], expected[0])
    assert seen[-1] in ((6, 6), (2, 2)) and all(done == total for done, total in seen[-2:])
