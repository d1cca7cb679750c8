"""The estimators as scikit-learn users know them, on disk, and what they say to wrong input."""

import copy
import weakref

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from miaod_plugin import MIAOD, MIAODDetector, ObjectDetector, Supervised
from miaod_plugin.data import make_digit_scenes, make_targets, write_voc
from miaod_plugin.errors import ConfigError, DataError, MiaodError
from miaod_plugin.training.data import as_many

DATA = make_digit_scenes(10, random_state=5)


def tiny(cls=ObjectDetector, **parameters):
    return cls("retinanet_tiny", **{"classes": DATA.classes, "max_steps": 2, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def detector():
    return tiny().fit(DATA.X[:4], DATA.y[:4])


@pytest.mark.parametrize("method", ["predict", "transform"])
def test_an_unfitted_detector_says_so(method):
    with pytest.raises(NotFittedError):
        getattr(tiny(), method)(DATA.X[:1])


def test_tags_say_what_goes_in():
    tags = get_tags(tiny())
    assert tags.input_tags.string and not tags.input_tags.two_d_array and tags.target_tags.required


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = (tiny(random_state=s).fit(DATA.X[:4], DATA.y[:4]).network_.state_dict() for s in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_seed_decides_the_first_weights():
    unmoved = (tiny(learning_rate=0.0, max_steps=1, random_state=seed).fit(DATA.X[:2], DATA.y[:2]) for seed in (0, 1))
    first, other = (next(detector.network_.classifiers.parameters()) for detector in unmoved)
    assert not torch.equal(first, other)


def test_an_untrained_copy_has_the_weights_that_a_training_begins_with_and_embeds_images():
    detector = tiny(learning_rate=0.0, max_steps=1)
    untrained = detector.untrained()
    assert not hasattr(detector, "network_") and np.isfinite(untrained.transform(DATA.X)).all()
    fitted = dict(detector.fit(DATA.X[:2], DATA.y[:2]).network_.named_parameters())
    assert all(torch.equal(value, fitted[name]) for name, value in untrained.network_.named_parameters())


def test_images_on_disk_and_in_memory_give_the_same_detector(tmp_path):
    from miaod_plugin.data import load_voc

    write_voc(DATA, tmp_path)
    paths = load_voc(tmp_path, split="train", classes=DATA.classes)
    in_memory = tiny().fit(DATA.X[:4], DATA.y[:4]).network_.state_dict()
    on_disk = tiny(num_workers=1).fit(paths.X[:4], paths.y[:4]).network_.state_dict()
    assert all(torch.equal(in_memory[name], on_disk[name]) for name in in_memory)


def test_targets_of_none_count_as_unlabelled():
    y = DATA.y.copy()
    y[4:] = None
    detector = tiny(MIAODDetector, max_steps=8).fit(DATA.X, y)
    assert len(detector.X_labeled_) == 4 and detector.n_unlabeled_ == 4


@pytest.mark.parametrize("n_labelled, n_unlabelled, used", [(2, 8, 2), (8, 2, 2), (1, 0, 0), (3, 1, 1)])
def test_as_many_unlabelled_images_are_used_as_labelled_ones_at_most(n_labelled, n_unlabelled, used):
    unlabelled = DATA.X[n_labelled : n_labelled + n_unlabelled]
    detector = tiny(MIAODDetector, max_steps=8, batch_size=4).fit(
        DATA.X[:n_labelled], DATA.y[:n_labelled], unlabeled=unlabelled
    )
    assert detector.n_unlabeled_ == used and detector.n_steps_ == 8


def test_the_seed_decides_which_unlabelled_images_are_used():
    first, again, other = (as_many(np.arange(100), 10, seed).tolist() for seed in (0, 0, 1))
    assert first == again == sorted(set(first)) and len(first) == 10
    assert first != other


def test_without_unlabelled_images_only_label_set_training_runs():
    rounds = []
    tiny(MIAODDetector, max_steps=8, on_step=lambda report: rounds.append(report["round"])).fit(DATA.X[:4], DATA.y[:4])
    assert rounds == ["label"] * 8


def test_classes_are_numbered_when_they_are_not_named():
    detector = tiny(classes=None).fit(DATA.X[:6], DATA.y[:6])
    most = max(target["labels"].max() for target in DATA.y[:6] if len(target["labels"]))
    assert detector.classes_.tolist() == [str(k) for k in range(most + 1)]


def test_score_is_the_voc_ap_of_the_predictions(detector):
    from miaod_plugin.metrics import voc_average_precision

    expected = voc_average_precision(detector.predict(DATA.X), DATA.y, 5)["map"]
    assert detector.score(DATA.X, DATA.y) == expected


def test_score_names_the_cause_of_labels_beyond_the_classes(detector):
    y = DATA.y[:1].copy()
    y[0] = {"boxes": np.float32([[1, 1, 9, 9]]), "labels": np.array([5])}
    with pytest.raises(DataError, match=r"'labels'\] is \[5\]; expected integers from 0 to 4, .*classes=data.classes"):
        detector.score(DATA.X[:1], y)


def test_map_pool_feeds_every_reducer_from_one_pass(detector):
    batches = []

    def count(outputs):
        batches.append(len(outputs.image_sizes))
        return torch.full((len(outputs.image_sizes),), len(outputs.image_sizes))

    detector.set_params(score_batch_size=4)
    rows = detector.map_pool(DATA.X, {"count": count, "sizes": lambda outputs: outputs.image_sizes})
    assert batches == [4, 4, 2] and rows["count"].tolist() == [4] * 8 + [2] * 2
    assert rows["sizes"].dtype == object and rows["sizes"][0] == (64, 64)


def test_only_one_batch_of_instance_outputs_is_in_memory_at_a_time(detector):
    earlier, alive = [], []

    def look(outputs):
        alive.append(sum(batch() is not None for batch in earlier))
        earlier.append(weakref.ref(outputs))
        return outputs.embeddings

    detector.set_params(score_batch_size=2).map_pool(DATA.X, {"embeddings": look})
    assert alive == [0] * 5


def test_the_batch_size_of_scoring_does_not_change_utilities(detector):
    one, many = (
        detector.set_params(score_batch_size=size).map_pool(DATA.X, {"x": lambda o: o.embeddings})["x"]
        for size in (1, 8)
    )
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 0}, "batch_size: 0"),
        ({"learning_rate": -1.0}, "learning_rate: -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate: nan"),
        ({"optimizer": "adam"}, "optimizer: 'adam'"),
        ({"device": "gpu"}, "device: 'gpu'"),
        ({"classes": ()}, "classes: "),
        ({"detector": "retinanet_tny"}, "unknown detector 'retinanet_tny'; did you mean 'retinanet_tiny'"),
        ({"detector_options": {"widht": 8}}, "has no 'widht'; did you mean 'width'"),
        ({"random_state": -1}, "random_state: -1"),
        ({"random_state": 2**70}, "random_state: 1180591620717411303424"),
        ({"random_state": "0"}, "random_state: '0'"),
        ({"device": "meta"}, "device: 'meta' is not known"),
        ({"device": "cuda:77"}, "device: 'cuda:77' is not there"),
        ({"device": 3}, "device: 3 is not allowed"),
        ({"device": None}, "device: None is not allowed"),
        ({"batch_size": "4"}, "batch_size: '4' is not allowed; give a whole number from 1 to 1,000,000,000"),
        ({"batch_size": 10**400}, "batch_size: a number of 1329 bits is not allowed"),
        ({"batch_size": True}, "batch_size: True"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is not allowed; give a number from 0 on"),
        ({"learning_rate": 10**400}, "learning_rate: a number of 1329 bits"),
        ({"learning_rate": [0.1]}, "learning_rate: [0.1]"),
        ({"momentum": 1.0}, "momentum: 1.0 is not allowed; give a number from 0 to below 1"),
        ({"horizontal_flip": 1.5}, "horizontal_flip: 1.5"),
        ({"num_workers": 100_000}, "num_workers: 100000"),
        ({"optimizer": None}, "optimizer: None is not allowed; give 'sgd' or 'adamw'"),
        ({"classes": "abc"}, "classes: 'abc' is not allowed; give a sequence of 1 to 10,000 different names"),
        ({"classes": 5}, "classes: 5"),
        ({"classes": ["a", ["b", "c"]]}, "classes: ['a', ['b', 'c']] is not allowed"),
        ({"classes": {"a": 1}}, "classes: {'a': 1}"),
        ({"classes": [["a"], ["b"]]}, "classes: [['a'], ['b']]"),
        ({"classes": ["a", None]}, "classes: ['a', None]"),
        ({"classes": ["a", "a"]}, "classes: ['a', 'a']"),
        ({"classes": [str(i) for i in range(10_001)]}, "classes: ['0', '1'"),
        ({"detector": None}, "detector: None is not allowed; give text or a function"),
        ({"detector": torch.nn.Linear(2, 2)}, "detector: a Linear is a network; give a function"),
        ({"detector": lambda num_classes: torch.nn.Linear(2, 2)}, "builds a Linear, which is no Detector"),
        ({"detector_options": [8]}, "detector_options: [8] is not allowed; give a mapping of names to values or None"),
        ({"detector_options": {3: 8}}, "has no 3"),
        ({"checkpoint": 3}, "checkpoint: 3"),
        ({"on_step": "print"}, "on_step: 'print' is not allowed; give a function or None"),
        ({"max_steps": 0}, "max_steps: 0"),
        ({"training": Supervised(epochs=0)}, "epochs: 0 is not allowed; give a whole number from 1"),
        ({"training": MIAOD}, "MIAOD'> is not allowed; give a Training or None"),
        ({"training": "miaod"}, "training: 'miaod' is not allowed; give a Training or None"),
    ],
)
def test_a_wrong_parameter_is_named_in_one_line(change, message):
    with pytest.raises(ConfigError) as caught:
        tiny().set_params(**change).fit(DATA.X[:2], DATA.y[:2])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_parameter_that_goes_wrong_after_fitting_is_named_when_images_are_looked_at(detector):
    spoilt = copy.copy(detector).set_params(score_batch_size="8")
    with pytest.raises(ConfigError, match="score_batch_size: '8' is not allowed"):
        spoilt.predict(DATA.X[:1])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mode": "improvd"}, "mode: 'improvd' is not allowed; give 'improved' or 'faithful'"),
        ({"mode": ["improved"]}, "mode: ['improved']"),
        ({"options": {"top_k": 5.5}}, "options.top_k: 5.5"),
        ({"options": {"background": 1}}, "options.background: 1 is not allowed; give True or False"),
        ({"options": {"pseudo_label_threshold": "a"}}, "options.pseudo_label_threshold: 'a'"),
        ({"options": {"discrepancy_weight": float("inf")}}, "options.discrepancy_weight: inf"),
        ({"options": [1]}, "options: [1] is not allowed; give a mapping of names to values or None"),
        ({"options": {1: 2}}, "options: 1 is not an option of MI-AOD"),
        ({"options": {"topk": 3}}, "did you mean 'top_k'"),
        ({"options": {"top_k": 0}}, "options.top_k: 0"),
        ({"options": {"attention": "full"}}, "options.attention: 'full'"),
        ({"rounds": -1}, "rounds: -1"),
    ],
)
def test_a_wrong_option_of_mi_aod_is_named_in_one_line(change, message):
    with pytest.raises(ConfigError) as caught:
        tiny(MIAODDetector, **change).fit(DATA.X[:2], DATA.y[:2], unlabeled=DATA.X[2:])
    assert message in str(caught.value) and "\n" not in str(caught.value)


BOX = {"boxes": np.array([[1.0, 2, 3, 4]], np.float32), "labels": np.array([0])}


@pytest.mark.parametrize(
    "X, y, message",
    [
        (DATA.X[:2], DATA.y[:1], "1 targets for 2 images"),
        (DATA.X[:1], [None], "every target is None"),
        (DATA.X[:1].astype(np.float32), DATA.y[:1], "is not a set of images"),
        (np.array(["missing.jpg"]), [BOX], "missing.jpg"),
        (DATA.X[:1], [{**BOX, "labels": np.array([5])}], "labels"),
        (DATA.X[:1], [{**BOX, "boxes": np.array([[3.0, 2, 3, 4]], np.float32)}], "boxes"),
        (DATA.X[:0], [], "at least one image"),
    ],
)
def test_wrong_data_is_named_in_one_line(X, y, message):
    with pytest.raises(MiaodError) as caught:
        tiny().fit(X, make_targets(y))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_predicting_nothing_is_refused(detector):
    with pytest.raises(DataError, match="no image in the pool"):
        detector.predict(DATA.X[:0])
