"""Strategies in scikit-activeml's interface, and scikit-activeml's on embeddings.

Its checks for query strategies (`template_query_strategy.py` of its tests, which its package leaves out) are told here
in our words. Those of labels do not apply: numbers and text, and other missing labels than None, for targets are dicts;
`clf`, `reg`, weights of samples and of utilities, for its own strategies alone take them; and no label at all while the
detector is to be fitted.
"""

import csv
import sys
from inspect import signature

import numpy as np
import pytest
from sklearn.base import clone

from miaod_plugin import Committee, DetectionLearner, MIAODDetector, ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError, MiaodError
from miaod_plugin.registry import STRATEGIES, find, registered

pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")

from skactiveml.pool import CoreSet, SubSamplingWrapper, TypiClust, UncertaintySampling

from miaod_plugin.skactiveml import DetectionQueryStrategy, EmbeddingSampling, embedding_sampling

DATA = make_digit_scenes(12, random_state=5)
X, Y = DATA.X, DATA.y.copy()
ANNOTATED = [0, 3, 4, 9]
POOL = np.delete(np.arange(12), ANNOTATED)
Y[POOL] = None
NAMES = registered(STRATEGIES)
ON_EMBEDDINGS = ["CoreSet", "GreedySamplingX", "MaxHerding", "ProbCover", "RandomSampling", "TypiClust"]


@pytest.fixture(scope="module")
def detector():
    """A detector that two strategies out of three can ask, trained for a few steps."""
    estimator = MIAODDetector("retinanet_tiny", classes=DATA.classes, max_steps=6, rounds=1, random_state=0)
    return estimator.fit(X, Y)


@pytest.fixture(params=NAMES)
def strategy(request, detector):
    """Each of our strategies as one of scikit-activeml's, asking a fitted detector, or two."""
    ours = find(STRATEGIES, request.param)(random_state=1)
    asked = detector if ours.n_detectors == 1 else Committee([detector, detector])
    return DetectionQueryStrategy(ours, asked, fit_estimator=False, random_state=42)


def test_only_images_without_annotation_are_rated_and_chosen(strategy):
    picked, utilities = strategy.query(X, Y, batch_size=5, return_utilities=True)
    assert picked.shape == (5,) and utilities.shape == (5, 12)
    assert len(set(picked.tolist())) == 5 and set(picked) <= set(POOL)
    assert np.flatnonzero(np.isnan(utilities[0])).tolist() == ANNOTATED
    for k, row in enumerate(utilities):
        assert np.isnan(row[picked[:k]]).all() and np.isnan(row).sum() == len(ANNOTATED) + k
        assert row[picked[k]] == np.nanmax(row), "each choice is the best of its row"
    np.testing.assert_array_equal(strategy.query(X, Y, batch_size=5), picked)


def test_candidates_are_rows_or_images_that_are_rated_alike(strategy):
    picked, utilities = strategy.query(X, Y, return_utilities=True)
    as_rows = strategy.query(X, Y, POOL, return_utilities=True)
    np.testing.assert_array_equal(as_rows[0], picked)
    np.testing.assert_array_equal(as_rows[1], utilities)
    as_images = strategy.query(X, Y, X[POOL], return_utilities=True)
    assert POOL[as_images[0]] == picked and as_images[1].shape == (1, len(POOL))
    np.testing.assert_array_equal(as_images[1][0], utilities[0, POOL])
    alone, row = strategy.query(X, Y, POOL[1:2], return_utilities=True)
    assert alone.tolist() == [POOL[1]] and np.flatnonzero(~np.isnan(row[0])).tolist() == [POOL[1]]


def test_paths_are_candidates_as_well(detector, tmp_path):
    from miaod_plugin.data.images import store_image

    paths = np.array([str(store_image(image, tmp_path / f"{k}")) for k, image in enumerate(X)])
    strategy = DetectionQueryStrategy(find(STRATEGIES, "coreset")(), detector, fit_estimator=False)
    expected = strategy.query(X, Y, batch_size=3)
    np.testing.assert_array_equal(strategy.query(paths, Y, batch_size=3), expected)
    np.testing.assert_array_equal(POOL[strategy.query(paths, Y, paths[POOL], batch_size=3)], expected)


def test_a_batch_that_is_too_large_is_the_whole_pool_with_a_warning(strategy):
    with pytest.warns(UserWarning, match="batch_size=9"):
        assert sorted(strategy.query(X, Y, batch_size=9)) == POOL.tolist()


def test_the_same_question_has_the_same_answer_and_a_seed_decides(detector):
    random = find(STRATEGIES, "random")(random_state=0)
    state = np.random.RandomState(0)  # what scikit-activeml draws from
    strategy = DetectionQueryStrategy(random, detector, False, random_state=state)
    first, again = (strategy.query(X, Y, batch_size=4).tolist() for _ in range(2))
    assert first == again
    seeded = [clone(strategy).set_params(random_state=k).query(X, Y, batch_size=4).tolist() for k in range(4)]
    assert len(set(map(tuple, seeded))) > 1
    own = clone(strategy).set_params(random_state=None).query(X, Y, batch_size=4)
    np.testing.assert_array_equal(own, POOL[random.query(detector, X[POOL], 4)[0]])
    assert random.random_state == 0, "the strategy that was given does not change"


@pytest.mark.parametrize("name", signature(DetectionQueryStrategy).parameters)
def test_the_constructor_only_stores(name):
    anything = object()
    given = {"query_strategy": None, "estimator": None, name: anything}
    assert getattr(DetectionQueryStrategy(**given), name) is anything


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("X", "text"),
        ("X", np.vstack([X, X])),
        ("y", np.nan),
        ("y", np.vstack([Y, Y])),
        ("candidates", np.nan),
        ("candidates", object),
        ("candidates", np.zeros((2, 8, 8, 3), dtype=np.uint8)),
        ("batch_size", 0),
        ("batch_size", 1.2),
        ("return_utilities", "text"),
        ("random_state", "text"),
        ("missing_label", np.nan),
        ("missing_label", object),
        ("fit_estimator", "text"),
        ("query_strategy", UncertaintySampling()),
    ],
)
def test_wrong_arguments_are_refused(detector, argument, value):
    strategy = DetectionQueryStrategy(find(STRATEGIES, "random")(), detector, fit_estimator=False)
    given = {"X": X, "y": Y}
    if argument in strategy.get_params():
        strategy.set_params(**{argument: value})
    else:
        given[argument] = value
    with pytest.raises((TypeError, ValueError)):
        strategy.query(**given)


def test_a_query_fits_a_copy_of_the_estimator_and_leaves_it_unfitted():
    estimator = ObjectDetector("retinanet_tiny", classes=DATA.classes, max_steps=2, random_state=0)
    entropy = find(STRATEGIES, "entropy")(over="instances")
    picked = DetectionQueryStrategy(entropy, estimator).query(X, Y, batch_size=3)
    assert not hasattr(estimator, "network_")
    estimator.fit(X[ANNOTATED], Y[ANNOTATED])
    np.testing.assert_array_equal(picked, POOL[entropy.query(estimator, X[POOL], 3)[0]])


def test_a_round_of_its_loop_ends_with_everything_annotated(detector):
    y = np.full(len(Y), None)
    strategy = DetectionQueryStrategy(find(STRATEGIES, "coreset")(), detector, fit_estimator=False)
    for _ in range(4):
        picked = strategy.query(X, y, batch_size=3)
        assert all(y[row] is None for row in picked)
        y[picked] = DATA.y[picked]
    assert all(target is not None for target in y)


def test_it_can_be_wrapped_by_what_wraps_strategies_there(detector):
    strategy = DetectionQueryStrategy(find(STRATEGIES, "entropy")(), detector, fit_estimator=False)
    wrapped = SubSamplingWrapper(strategy, max_candidates=4, missing_label=None, random_state=0)
    picked, utilities = wrapped.query(X=X.reshape(12, 64, 64, 3), y=Y, batch_size=2, return_utilities=True)
    assert set(picked) <= set(POOL) and np.isfinite(utilities[0]).sum() == 4


def test_core_set_there_picks_what_core_set_here_picks(detector):
    ours = find(STRATEGIES, "coreset")()
    picked, distances = ours.query(detector, X[POOL], 6, labeled=X[ANNOTATED])
    theirs, their_distances = EmbeddingSampling(CoreSet()).query(detector, X[POOL], 6, labeled=X[ANNOTATED])
    np.testing.assert_array_equal(theirs, picked)
    np.testing.assert_allclose(their_distances, distances, rtol=1e-5)
    rows, utilities = CoreSet(missing_label=np.nan, random_state=0).query(
        detector.transform(X), np.where(np.isin(np.arange(12), POOL), np.nan, 0.0), batch_size=3, return_utilities=True
    )
    strategy = DetectionQueryStrategy(ours, detector, fit_estimator=False)
    same_rows, same_utilities = strategy.query(X, Y, batch_size=3, return_utilities=True)
    np.testing.assert_array_equal(same_rows, rows)
    np.testing.assert_allclose(same_utilities, utilities, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:The maximum purity")
@pytest.mark.parametrize("name", ON_EMBEDDINGS)
def test_a_strategy_on_embeddings_keeps_the_rules_of_ours(detector, name):
    strategy = find(STRATEGIES, f"skactiveml:{name}")(random_state=0)
    labeled = (X[ANNOTATED], Y[ANNOTATED])
    indices, utilities = strategy.query(detector, X[POOL], 4, labeled=labeled)
    assert len(set(indices.tolist())) == 4 and set(indices) <= set(range(len(POOL)))
    np.testing.assert_array_equal((indices, utilities), strategy.query(detector, X[POOL], 4, labeled=labeled))
    assert strategy.utilities(detector, X[POOL], labeled=labeled).shape == (len(POOL),)
    assert repr(clone(strategy)) == repr(strategy) and find(STRATEGIES, f"skactiveml:{name}")().random_state is None


def test_a_strategy_on_embeddings_works_in_a_learner_with_nothing_annotated_and_in_a_wrapper():
    estimator = ObjectDetector("retinanet_tiny", classes=DATA.classes, max_steps=2, random_state=0)
    learner = DetectionLearner(estimator, EmbeddingSampling(TypiClust(), 0), X[ANNOTATED], Y[ANNOTATED])
    picked, images = learner.query(X[POOL], n_instances=2)
    learner.teach(images, DATA.y[POOL][picked])
    assert len(learner.X_training) == 6
    first, _ = EmbeddingSampling(TypiClust(), 0).query(learner.estimator, X, 3, labeled=X[:0])
    assert len(set(first.tolist())) == 3
    some = EmbeddingSampling(SubSamplingWrapper(CoreSet(), max_candidates=3), random_state=0)
    assert len(some.query(learner.estimator, X[POOL], 2)[0]) == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("UncertaintySampling", {}, "UncertaintySampling needs clf"),
        ("Quire", {}, "Quire needs classes"),
        ("SubSamplingWrapper", {}, "needs query_kwargs and query_strategy"),
        ("ProbCovr", {}, "it has no 'ProbCovr'; did you mean 'ProbCover'?"),
        ("ProbCover", {"alpha": "much"}, "scikit-activeml's ProbCover does not work so"),
    ],
)
def test_what_does_not_work_on_embeddings_is_refused_in_one_line(detector, name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        find(STRATEGIES, f"skactiveml:{name}")(**options).query(detector, X[POOL], 2)
    assert "\n" not in str(caught.value)


def test_a_loaded_detector_must_be_told_what_is_annotated(detector, tmp_path):
    detector.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="query with labeled=X"):
        EmbeddingSampling(CoreSet()).query(loaded, X[POOL])


def test_all_that_can_be_named_is_tried_here():
    from skactiveml import pool

    def works(name):
        try:
            return embedding_sampling(name)
        except MiaodError:
            return None

    assert [name for name in sorted(pool.__all__) if works(name)] == ON_EMBEDDINGS


def test_rank_takes_its_strategies_by_name(checkpoints, folder, tmp_path, miaod):
    arguments = ["rank", folder, "-c", checkpoints / "supervised.safetensors", "--out", tmp_path / "rank.csv"]
    arguments += ["--strategy", "skactiveml:CoreSet"]
    status, _, errors = miaod(*arguments)
    assert status == 2 and errors.count("\n") == 1 and "--labelled" in errors
    assert miaod(*arguments, "--labelled", folder / "sub")[0] == 0
    with open(tmp_path / "rank.csv", newline="", encoding="utf-8") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {"a.png", "b.png", "sub/c.png"}
    status, output, _ = miaod("config", "skactiveml:TypiClust")
    assert status == 0 and "options.k" in output and "missing_label" not in output


def test_without_scikit_activeml_one_line_says_what_to_install(checkpoints, folder, miaod, monkeypatch):
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    monkeypatch.delitem(sys.modules, "miaod_plugin.skactiveml")
    arguments = ["--strategy", "skactiveml:TypiClust", "--labelled", folder]
    status, _, errors = miaod("rank", folder, "-c", checkpoints / "supervised.safetensors", *arguments)
    assert status == 2 and errors.count("\n") == 1 and "pip install 'miaod-plugin[skactiveml]'" in errors


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_breaks_inside_of_scikit_activeml_is_told_in_one_line(detector):
    alike = np.repeat(X[:1], 4, axis=0)  # TypiClust finds fewer clusters than it wants, and stumbles
    with pytest.raises(ConfigError, match=r"TypiClust does not work so .* choose another strategy"):
        EmbeddingSampling(TypiClust(), random_state=0).query(detector, alike, 2, labeled=alike)
