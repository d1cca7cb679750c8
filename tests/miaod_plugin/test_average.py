"""A detector whose weights are an average of those of its steps, whatever the training."""

import copy

import pytest
import torch
from tiny_detectors import TINY_OPTIONS

from miaod_plugin import MIAOD, LabelSet, ObjectDetector, Supervised
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.mil.adapting import adapted_to

DATA = make_digit_scenes(10, random_state=1)


def fitted(training, **parameters):
    common = dict(classes=DATA.classes, max_steps=8, random_state=3, detector_options=TINY_OPTIONS["retinanet_tiny"])
    detector = ObjectDetector("retinanet_tiny", training=training, **common | parameters)
    return detector.fit(DATA.X[:4], DATA.y[:4], unlabeled=DATA.X[4:])


def averages(training, **parameters):
    """Return the average's weights after a training, and those of every step, each as a dict."""
    kept = []

    class Watched(type(training)):
        def after_step(self, network):
            kept.append({name: x.clone() for name, x in network.state_dict().items() if "average" not in name})

    detector = fitted(Watched(**training.get_params()), **parameters)
    return detector.network_.state_dict(), kept


@pytest.mark.parametrize("training", [Supervised(average=0.5), MIAOD(average=0.5, rounds=1, label_epochs=1)])
def test_what_detects_is_the_average_over_a_share_of_the_steps_so_far(training):
    found, (expected, *later) = averages(training)
    for step, weights in enumerate(later, start=2):
        rate = min(1.0, 1 / (0.5 * step))
        expected = {name: old + rate * (weights[name] - old) for name, old in expected.items()}
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        wanted = expected[name] if tensor.is_floating_point() else later[-1][name]
        assert torch.allclose(tensor, wanted.to(tensor.dtype), rtol=1e-4, atol=1e-6), name


def test_the_average_changes_no_step_and_without_it_the_last_weights_detect():
    _, averaged_over = averages(Supervised(average=0.5))
    last, alone = averages(Supervised())
    for with_it, without in zip(averaged_over, alone, strict=True):
        assert all(torch.equal(with_it[name], tensor) for name, tensor in without.items())
    assert all(torch.equal(last[name], tensor) for name, tensor in alone[-1].items())


def test_an_averaged_detector_can_be_trained_further_for_a_query():
    detector = fitted(LabelSet(average=0.5, rounds=1, label_epochs=1))
    before = copy.deepcopy(detector.network_.state_dict())
    further = adapted_to(detector, DATA.X[4:])
    assert all(torch.equal(before[name], tensor) for name, tensor in detector.network_.state_dict().items())
    moved = [name for name, tensor in further.network_.state_dict().items() if not torch.equal(before[name], tensor)]
    assert moved and further.network_.state_dict().keys() == before.keys()


def test_the_whole_pool_is_learned_from_where_the_training_says_so():
    assert fitted(MIAOD(rounds=1)).n_unlabeled_ == 4
    whole = fitted(MIAOD(rounds=1, whole_pool=True))
    assert whole.n_unlabeled_ == 6 and whole.n_steps_ == 8
