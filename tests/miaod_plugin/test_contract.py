"""What every registered strategy and detector keeps, in every combination."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from tiny_detectors import TINY_OPTIONS, show_everything

from miaod_plugin import Committee, MIAODDetector, ObjectDetector
from miaod_plugin.data import make_digit_scenes, make_targets
from miaod_plugin.errors import ConfigError
from miaod_plugin.registry import DETECTORS, STRATEGIES, find, registered

DATA = make_digit_scenes(10, random_state=5)
DETECTOR_NAMES, STRATEGY_NAMES = registered(DETECTORS), registered(STRATEGIES)
_fitted = {}


def new_estimator(name, cls=MIAODDetector, **parameters):
    """Return a detector to be trained for a few steps: MI-AOD for a labelled, two mixed rounds and a labelled again."""
    parameters = {"classes": DATA.classes, "max_steps": 2, "random_state": 0, "score_batch_size": 6} | parameters
    if cls is MIAODDetector:
        parameters = parameters | {"rounds": 1, "label_epochs": 1, "max_steps": 6}
    return cls(name, detector_options=TINY_OPTIONS[name], **parameters)


def fitted(name, cls=MIAODDetector):
    """Return a detector trained for a few steps and so eager that it finds something everywhere, made once for each."""
    if (name, cls) not in _fitted:
        estimator = new_estimator(name, cls).fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:])
        draw, network = torch.Generator().manual_seed(0), show_everything(estimator).network_
        with torch.no_grad():
            for classifier in network.classifiers:
                for parameter in classifier.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.01)
                if not network.detector.background:
                    parameter.add_(3)  # the last one, a bias: of sigmoids that begin at 0.01
        assert all(len(found["scores"]) and np.ptp(found["scores"]) for found in estimator.predict(DATA.X))
        _fitted[name, cls] = estimator
    return _fitted[name, cls]


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Free the memory of the detectors in the end."""
    yield
    _fitted.clear()


def asked(strategy, name):
    """Return what a strategy is asked about: a detector, or a committee of it and one that was trained supervised."""
    if strategy.n_detectors == 1:
        return fitted(name)
    return Committee([fitted(name), fitted(name, ObjectDetector)])


def seen(estimator):
    """Return the logits and all boxes of three images, whatever their score."""
    reducers = {
        "logits": lambda outputs: torch.cat(outputs.logits, dim=1),
        "detections": lambda outputs: outputs.detections,
    }
    return show_everything(estimator).map_pool(DATA.X[:3], reducers)


def same_detections(first, second):
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("strategy_name", STRATEGY_NAMES)
@pytest.mark.parametrize("detector_name", DETECTOR_NAMES)
class TestEveryStrategyOnEveryDetector:
    def test_answers_with_distinct_indices_best_first(self, strategy_name, detector_name):
        strategy, pool = find(STRATEGIES, strategy_name)(random_state=0), DATA.X[4:]
        for n_instances in (1, len(pool)):
            indices, utilities = strategy.query(asked(strategy, detector_name), pool, n_instances)
            assert indices.shape == utilities.shape == (n_instances,)
            assert len(set(indices.tolist())) == n_instances and set(indices) <= set(range(len(pool)))
            assert np.isfinite(utilities).all() and (np.diff(utilities) <= 0).all()

    def test_has_the_same_answer_to_the_same_question_and_leaves_everything_as_it_was(
        self, strategy_name, detector_name
    ):
        strategy, pool = find(STRATEGIES, strategy_name)(random_state=3), DATA.X[4:].copy()
        estimator = asked(strategy, detector_name)
        parameters, weights = copy.deepcopy(strategy.get_params()), copy.deepcopy(estimator.network_.state_dict())
        np.random.seed(1)  # noqa: NPY002 (the global state is what is tested)
        torch.manual_seed(1)
        global_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        first = strategy.query(estimator, pool, 3)
        again = strategy.query(estimator, pool, 3)
        np.testing.assert_array_equal(first, again)
        assert np.array_equal(np.random.get_state()[1], global_state[0])  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), global_state[1])
        assert np.array_equal(pool, DATA.X[4:]) and strategy.get_params() == parameters
        assert all(torch.equal(weights[name], tensor) for name, tensor in estimator.network_.state_dict().items())

    def test_answers_alike_whether_it_is_told_the_annotated_images_or_knows_them(self, strategy_name, detector_name):
        strategy, pool, labeled = find(STRATEGIES, strategy_name)(random_state=0), DATA.X[4:], (DATA.X[:4], DATA.y[:4])
        estimator = asked(strategy, detector_name)
        several = strategy.n_detectors > 1
        loaded = Committee([copy.copy(member) for member in estimator]) if several else copy.copy(estimator)
        for detector in loaded if several else [loaded]:
            del detector.X_labeled_, detector.y_labeled_  # a loaded detector does not know what it learned from
        expected, utilities = strategy.query(estimator, pool, 3), strategy.utilities(estimator, pool)
        assert utilities.shape == (6,) and np.isfinite(utilities).all()
        np.testing.assert_array_equal(strategy.utilities(loaded, pool, labeled=labeled), utilities)
        np.testing.assert_array_equal(strategy.query(loaded, pool, 3, labeled=labeled), expected)
        np.testing.assert_array_equal(strategy.select(loaded, pool, 3, labeled=labeled), expected)
        np.testing.assert_array_equal(np.transpose([*strategy.ranking(loaded, pool, 3, labeled=labeled)]), expected)
        learner = SimpleNamespace(estimator=loaded, X_training=labeled[0], y_training=labeled[1])
        np.testing.assert_array_equal(strategy(learner, pool, n_instances=3), expected)
        if strategy.needs_labeled == "targets":
            with pytest.raises(ConfigError, match=r"^labeled: .*query with labeled=\(X, y\)$"):
                strategy.query(loaded, pool, 3, labeled=labeled[0])
        else:
            np.testing.assert_array_equal(strategy.query(loaded, pool, 3, labeled=labeled[0]), expected)
        assert not hasattr(loaded, "X_labeled_")


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_every_strategy_survives_clone_and_get_params(name):
    strategy = find(STRATEGIES, name)(random_state=7)
    twin = clone(strategy)
    assert twin is not strategy and twin.get_params() == strategy.get_params()
    assert find(STRATEGIES, name)(**strategy.get_params()).get_params() == strategy.get_params()


@pytest.mark.parametrize("cls", [ObjectDetector, MIAODDetector])
@pytest.mark.parametrize("name", DETECTOR_NAMES)
class TestEveryDetector:
    def test_survives_clone_and_get_params(self, name, cls):
        estimator = new_estimator(name, cls, learning_rate=0.5)
        twin = clone(estimator)
        own, theirs = (one.get_params() | {"training": type(one.training_)} for one in (estimator, twin))
        assert theirs == own and twin.learning_rate == 0.5
        assert ObjectDetector(**estimator.get_params(deep=False)).get_params() == estimator.get_params()

    def test_learns_from_a_single_class_and_images_without_boxes(self, name, cls):
        y = make_targets([{"boxes": t["boxes"], "labels": t["labels"] * 0} for t in DATA.y[:4]])
        y[1] = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
        losses = []
        estimator = new_estimator(name, cls, classes=("digit",), on_step=lambda report: losses.append(report["losses"]))
        estimator.fit(DATA.X[:4], y, unlabeled=DATA.X[4:])
        assert len(losses) == estimator.max_steps and all(np.isfinite(list(step.values())).all() for step in losses)
        kinds = {kind for step in losses for kind in ("discrepancy", "agreement") if kind in step}
        assert kinds == ({"discrepancy", "agreement"} if cls is MIAODDetector else set())
        found = show_everything(estimator).predict(DATA.X[:2])
        assert all(len(image["labels"]) and (image["labels"] == 0).all() for image in found)

    def test_learns_when_no_image_has_a_box(self, name, cls):
        empty = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
        estimator = new_estimator(name, cls).set_params(max_steps=2)
        estimator.fit(DATA.X[:2], make_targets([empty, empty]), DATA.X[2:4])
        assert np.isfinite(list(estimator.losses_.values())).all()

    def test_is_the_same_after_save_and_load(self, name, cls, tmp_path):
        estimator = fitted(name, cls)
        estimator.save(tmp_path / "model.safetensors")
        loaded = ObjectDetector.load(tmp_path / "model.safetensors")
        before, after = seen(estimator), seen(loaded)
        assert np.array_equal(before["logits"], after["logits"]) and np.ptp(before["logits"]) > 0
        assert all(len(found["scores"]) for found in before["detections"])
        assert same_detections(before["detections"], after["detections"])
        assert loaded.classes_.tolist() == list(DATA.classes)

    def test_detections_keep_the_contract(self, name, cls):
        estimator = fitted(name, cls)
        for found in seen(estimator)["detections"]:
            assert found["boxes"].dtype == np.float32 and found["boxes"].shape == (len(found["scores"]), 4)
            assert found["labels"].dtype == np.int64 and set(found["labels"]) <= set(range(5))
            assert len(found["scores"]) and (np.diff(found["scores"]) <= 0).all()
            assert 0 < found["scores"][-1] <= found["scores"][0] < 1
            assert found["boxes"].min() >= 0 and found["boxes"].max() <= 64
            assert found["instances"].dtype == np.int64 and found["instances"].shape == found["labels"].shape
        assert all(found.keys() == {"boxes", "labels", "scores"} for found in estimator.predict(DATA.X[:3]))
        embeddings = estimator.transform(DATA.X[:3])
        assert embeddings.dtype == np.float32 and embeddings.shape[0] == 3 and np.isfinite(embeddings).all()
