"""The active learning loop, with modAL's own learner and with ours."""

import copy
import re

import numpy as np
import pytest
import sklearn
from modAL.models import ActiveLearner
from sklearn.exceptions import NotFittedError
from tiny_detectors import show_everything

from miaod_plugin import DetectionLearner, MIAODDetector
from miaod_plugin.data import make_digit_scenes, make_targets
from miaod_plugin.errors import ConfigError, MiaodError, TrainingError
from miaod_plugin.metrics import voc_average_precision
from miaod_plugin.query import QueryStrategy
from miaod_plugin.strategies import MIAODSampling

DATA = make_digit_scenes(18, random_state=8)
START, POOL = np.arange(4), np.arange(4, 14)
TEST = slice(14, 18)
MODAL_CAN_TEACH = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8)


class CountingSampling(QueryStrategy):
    """Rates images by their position and counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def utilities(self, estimator, X, *, labeled=None):
        self.calls += 1
        self.labeled = labeled
        return -np.arange(len(X), dtype=float)


def detector():
    return MIAODDetector("retinanet_tiny", classes=DATA.classes, max_steps=10, random_state=0)


def learner_of(cls, strategy):
    return cls(estimator=detector(), query_strategy=strategy, X_training=DATA.X[START], y_training=DATA.y[START])


@pytest.mark.parametrize("cls", [DetectionLearner, ActiveLearner])
@pytest.mark.parametrize("n_instances", [1, 2, 7, len(POOL)])
def test_one_query_asks_the_strategy_once(cls, n_instances):
    strategy = CountingSampling()
    learner = learner_of(cls, strategy)
    picked, images = learner.query(DATA.X[POOL], n_instances=n_instances)
    assert strategy.calls == 1
    assert picked.tolist() == list(range(n_instances))
    assert np.array_equal(images, DATA.X[POOL][picked])


@pytest.mark.parametrize("cls", [DetectionLearner, ActiveLearner])
def test_a_strategy_is_told_the_annotated_images_of_the_learner(cls):
    learner = learner_of(cls, CountingSampling())
    learner.estimator = copy.copy(learner.estimator)
    del learner.estimator.X_labeled_, learner.estimator.y_labeled_  # as if it had been loaded
    learner.query(DATA.X[POOL])
    X, y = learner.query_strategy.labeled
    assert np.array_equal(X, DATA.X[START]) and y.tolist() == DATA.y[START].tolist()


def test_images_that_a_learner_was_taught_without_a_target_are_not_taken_for_annotated():
    learner = DetectionLearner(detector(), CountingSampling())
    learner.fit(DATA.X[:5], make_targets([*DATA.y[:3], None, None]))
    learner.query(DATA.X[POOL])
    X, y = learner.query_strategy.labeled
    assert np.array_equal(X, DATA.X[:3]) and y.tolist() == DATA.y[:3].tolist()


def run_loop(learner):
    """Query, annotate and teach twice, as the README does; return how many images are known."""
    pool = POOL
    for n_instances in (2, 3):
        picked, images = learner.query(DATA.X[pool], n_instances=n_instances)
        annotated, pool = pool[picked], np.delete(pool, picked)
        learner.teach(images, DATA.y[annotated], unlabeled=DATA.X[pool])
    return len(learner.X_training)


def test_the_loop_runs_with_detection_learner():
    learner = learner_of(DetectionLearner, MIAODSampling(random_state=0))
    assert run_loop(learner) == len(learner.y_training) == 9
    assert learner.estimator.n_unlabeled_ == 5 and len(learner.estimator.X_labeled_) == 9
    show_everything(learner.estimator)
    expected = voc_average_precision(learner.predict(DATA.X[TEST]), DATA.y[TEST], len(DATA.classes))["map"]
    assert learner.score(DATA.X[TEST], DATA.y[TEST]) == expected > 0
    learner.fit(DATA.X[START], DATA.y[START], unlabeled=DATA.X[POOL])
    assert len(learner.X_training) == 4 and learner.estimator.n_unlabeled_ == 4


@pytest.mark.skipif(not MODAL_CAN_TEACH, reason="modAL's teach fails with scikit-learn 1.8 and newer")
def test_the_loop_runs_with_modal_s_own_learner():
    assert run_loop(learner_of(ActiveLearner, MIAODSampling(random_state=0))) == 9


def test_query_returns_utilities_when_asked_for_metrics():
    learner = learner_of(DetectionLearner, CountingSampling())
    picked, images, utilities = learner.query(DATA.X[POOL], n_instances=3, return_metrics=True)
    assert len(picked) == len(images) == len(utilities) == 3


def test_a_failing_strategy_is_not_asked_again():
    class Failing(CountingSampling):
        def utilities(self, estimator, X, *, labeled=None):
            super().utilities(estimator, X, labeled=labeled)
            raise RuntimeError("from the strategy")

    strategy = Failing()
    with pytest.raises(RuntimeError, match="from the strategy"):
        learner_of(DetectionLearner, strategy).query(DATA.X[POOL])
    assert strategy.calls == 1


def test_a_learner_can_begin_without_data_and_be_taught():
    learner = DetectionLearner(estimator=detector(), query_strategy=CountingSampling())
    learner.teach(DATA.X[:3], DATA.y[:3])
    learner.teach(DATA.X[3:5], list(DATA.y[3:5]))
    assert learner.X_training.shape == (5, 64, 64, 3) and learner.y_training.dtype == object


def test_teaching_more_targets_than_images_changes_nothing():
    learner = learner_of(DetectionLearner, CountingSampling())
    with pytest.raises(MiaodError, match="2 targets for 1 images"):
        learner.teach(DATA.X[5:6], DATA.y[5:7])
    assert len(learner.X_training) == 4


@pytest.mark.parametrize("n_instances, message", [(0, "from 1 on"), (99, "the pool has 10 images"), (2.5, "from 1 on")])
def test_asking_for_an_impossible_number_is_one_line(n_instances, message):
    with pytest.raises(MiaodError, match=message):
        learner_of(DetectionLearner, CountingSampling()).query(DATA.X[POOL], n_instances=n_instances)


@pytest.mark.parametrize(
    "estimator, strategy, message",
    [
        (None, MIAODSampling(), "estimator: None is not allowed; give a detector"),
        (MIAODDetector, MIAODSampling(), "estimator: <function MIAODDetector .* is not allowed"),
        (MIAODDetector("retinanet_tiny"), None, "query_strategy: None is not allowed; give a strategy"),
        (MIAODDetector("retinanet_tiny"), MIAODSampling, "query_strategy: <class .*MIAODSampling'> is not allowed"),
    ],
)
def test_a_learner_of_what_is_no_detector_or_no_strategy_is_refused_in_one_line(estimator, strategy, message):
    with pytest.raises(ConfigError, match=message):
        DetectionLearner(estimator, strategy)


@pytest.mark.parametrize("estimator", [None, MIAODDetector, "retinanet_tiny"])
def test_a_strategy_asked_about_what_is_no_detector_refuses_in_one_line(estimator):
    with pytest.raises(ConfigError, match=r"estimator: .* is not allowed; give a fitted detector"):
        MIAODSampling().query(estimator, DATA.X[POOL], 1)


def test_asking_an_unfitted_detector_stays_scikit_learns_error():
    with pytest.raises(NotFittedError):
        MIAODSampling().query(MIAODDetector("retinanet_tiny", DATA.classes), DATA.X[POOL], 1)


def known(learner):
    """Return what must not change when a learner is not taught."""
    weights = learner.estimator.network_.state_dict()
    return (
        learner.X_training.tolist(),
        [id(target) for target in learner.y_training],
        {name: tensor.tolist() for name, tensor in weights.items()},
    )


WRONG_BOX = {"boxes": np.array([[5.0, 5, 5, 9]], np.float32), "labels": np.array([0])}


@pytest.mark.parametrize(
    "X, y, message",
    [
        (DATA.X[5:7], DATA.y[5:6], "1 targets for 2 images"),
        (DATA.X[5:6], None, "y: None is not a sequence of targets"),
        (DATA.X[5:6], [WRONG_BOX], "y[4]['boxes'][0]"),
        (DATA.X[5:6], [[1, 2]], "y[4] must be None or a dict"),
        (DATA.X[5:6, :32], DATA.y[5:6], "X: arrays of 32 x 64 beside arrays of 64 x 64"),
        (np.array(["a.jpg"]), DATA.y[5:6], "X: paths beside arrays of 64 x 64"),
        (["a.jpg"], DATA.y[5:6], "X: paths beside arrays of 64 x 64"),
        ("a.jpg", DATA.y[5:6], "X: 'a.jpg' is not a set of images"),
        ([DATA.X[5], DATA.X[6][:32]], DATA.y[5:7], "is not a set of images"),
        (None, DATA.y[5:6], "X: None is not a set of images"),
        (DATA.X[5:6].astype(float), DATA.y[5:6], "is not a set of images"),
    ],
)
def test_a_teach_that_is_refused_changes_nothing_and_the_next_one_works(X, y, message):
    learner = learner_of(DetectionLearner, CountingSampling())
    before = known(learner)
    with pytest.raises(MiaodError, match=re.escape(message)) as caught:
        learner.teach(X, y)
    assert str(caught.value).isprintable()
    assert known(learner) == before
    learner.teach(DATA.X[5:6], DATA.y[5:6])
    assert len(learner.X_training) == 5 and known(learner) != before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_training_that_is_stopped_leaves_the_learner_and_its_detector_as_they_were(error):
    learner = learner_of(DetectionLearner, CountingSampling())
    before = known(learner)

    def stop(report):
        if report["step"] == 3:
            raise error

    learner.estimator.set_params(on_step=stop)
    for call in (learner.teach, learner.fit):
        with pytest.raises(error):
            call(DATA.X[5:8], DATA.y[5:8], unlabeled=DATA.X[8:])
        assert known(learner) == before
    learner.estimator.set_params(on_step=None)
    learner.teach(DATA.X[5:8], DATA.y[5:8])
    assert len(learner.X_training) == 7


def test_a_loss_that_is_not_finite_leaves_the_learner_and_its_detector_as_they_were():
    learner = learner_of(DetectionLearner, CountingSampling())
    before = known(learner)
    learner.estimator.set_params(learning_rate=1e6, max_steps=60)
    with pytest.raises(TrainingError, match="not finite"):
        learner.teach(DATA.X[5:8], DATA.y[5:8])
    assert known(learner) == before


def test_a_learner_whose_first_fit_fails_knows_nothing():
    learner = DetectionLearner(estimator=detector(), query_strategy=CountingSampling())
    with pytest.raises(MiaodError):
        learner.teach(DATA.X[:1], [WRONG_BOX])
    assert learner.X_training is None and not hasattr(learner.estimator, "classes_")
    with pytest.raises(NotFittedError):
        learner.predict(DATA.X[:1])


def test_teaching_changes_neither_the_images_nor_the_targets_it_is_given():
    X, y = DATA.X[:6].copy(), copy.deepcopy(DATA.y[:6])
    learner = DetectionLearner(detector(), CountingSampling(), X[:3], list(y[:3]), unlabeled=X[4:])
    learner.teach(X[3:4], list(y[3:4]), unlabeled=X[4:])
    assert np.array_equal(X, DATA.X[:6])
    for given, original in zip(y, DATA.y[:6], strict=True):
        assert all(np.array_equal(given[key], original[key]) for key in original)
