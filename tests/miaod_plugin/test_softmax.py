"""MI-AOD on detectors whose classes compete with background in a softmax, against numpy."""

import numpy as np
import pytest
import torch
from tiny_detectors import TINY_OPTIONS

from miaod_plugin import MIAODDetector, mil
from miaod_plugin.baselines import EntropySampling
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.base import Detector, Features
from miaod_plugin.detectors.network import DetectionNetwork, InstanceOutputs
from miaod_plugin.mil.objective import class_logits, labeled_losses, mil_instances, unlabeled_losses
from miaod_plugin.mil.options import miaod_options
from miaod_plugin.strategies import MIAODSampling

B, SIZES, C = 2, (7, 3), 3


class SoftmaxDetector(Detector):
    background = True
    num_classes = C
    features = box_outputs = detections = None  # the tests draw the outputs, nothing computes them from images

    def build_classifier(self, num_classes):
        return torch.nn.Linear(1, num_classes)

    def loss(self, heads, boxes, features):
        return {}


def random_outputs(targets=None) -> InstanceOutputs:
    generator = torch.Generator().manual_seed(0)

    def head():
        return [4 * torch.randn(B, size, C + 1, generator=generator) for size in SIZES]

    features = Features([], torch.zeros(sum(SIZES), 4), [(8, 8)] * B, [(8, 8)] * B, (8, 8), targets)
    network = DetectionNetwork(SoftmaxDetector(), adversarial=True)
    outputs = InstanceOutputs(features, network)
    outputs.heads, outputs.mil_logits, outputs.boxes = [head(), head()], head(), torch.zeros(B, sum(SIZES), 4)
    return outputs


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def arrays(outputs):
    return [[level.double().numpy() for level in head] for head in (*outputs.heads, outputs.mil_logits)]


def cross_entropy(scores, wanted):
    scores = scores.clip(1e-5, 1 - 1e-5)
    return -np.mean(wanted * np.log(scores) + (1 - wanted) * np.log(1 - scores))


def original_weights(f1, f2, m):
    return softmax(m, 2) * softmax(sigmoid((f1 + f2) / 2).max(axis=2, keepdims=True), 1)


def test_log_odds_are_the_logits_whose_sigmoid_is_the_softmax():
    logits = 10 * torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(1))
    logits[0, 0] = torch.tensor([200.0, 0, -200, 0])  # certain: odds stay finite
    odds = mil.log_odds(logits)
    assert torch.isfinite(odds).all()
    torch.testing.assert_close(odds.sigmoid(), logits.softmax(dim=2), rtol=1e-5, atol=2e-6)


def test_log_odds_have_finite_gradients_where_a_class_is_certain():
    logits = torch.tensor([[[200.0, 0, -200]]], requires_grad=True)
    mil.log_odds(logits).sigmoid().square().sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_faithful_compares_softmaxes_and_weighs_with_sigmoids_background_included():
    outputs = random_outputs()
    f1, f2, m = arrays(outputs)
    weights = [original_weights(*levels) for levels in zip(f1, f2, m, strict=True)]
    apart = [np.abs(softmax(a, 2) - softmax(b, 2)) for a, b in zip(f1, f2, strict=True)]
    scores = np.max([level.sum(axis=1) for level in weights], axis=0)
    found = np.max([((sigmoid(a) + sigmoid(b)) / 2).max(axis=1) for a, b in zip(f1, f2, strict=True)], axis=0) >= 0.5
    options = miaod_options("faithful")
    minimised = unlabeled_losses([outputs], "min", options)
    expected = 0.5 * sum((d * w).mean(axis=2).sum() for d, w in zip(apart, weights, strict=True))
    assert minimised["discrepancy"].item() == pytest.approx(expected, rel=1e-5)
    assert found.any(axis=1).all()
    assert minimised["pseudo_labels"].item() == pytest.approx(cross_entropy(scores, found), rel=1e-5)
    expected = 0.5 * sum(((1 - d) * w).mean(axis=2).sum() for d, w in zip(apart, weights, strict=True))
    assert unlabeled_losses([outputs], "max", options)["agreement"].item() == pytest.approx(expected, rel=1e-5)


def test_faithful_wants_no_background_in_a_labelled_image():
    targets = [{"labels": torch.tensor([0, 2])}, {"labels": torch.tensor([], dtype=torch.int64)}]
    outputs = random_outputs(targets)
    weights = [original_weights(*levels) for levels in zip(*arrays(outputs), strict=True)]
    scores = np.max([level.sum(axis=1) for level in weights], axis=0)
    loss = labeled_losses(outputs, "label", miaod_options("faithful"))["image_classification"]
    assert loss.item() == pytest.approx(cross_entropy(scores, np.array([[1, 0, 1, 0], [0] * 4])), rel=1e-5)


def test_faithful_uncertainty_is_the_original_s_over_sigmoids():
    outputs = random_outputs()
    f1, f2, _ = (np.concatenate(head, axis=1) for head in arrays(outputs))
    expected = np.square(sigmoid(f1) - sigmoid(f2)).mean(axis=2).mean(axis=1)  # fewer instances than k: all count
    uncertainty = mil.image_uncertainty(*class_logits(outputs, miaod_options("faithful")), top_k=10_000)
    np.testing.assert_allclose(uncertainty, expected, rtol=1e-5)


def test_improved_uses_the_foreground_probabilities_everywhere():
    outputs = random_outputs()
    f1, f2, m = (np.concatenate(head, axis=1) for head in arrays(outputs))
    p1, p2 = (softmax(f, 2)[..., :C] for f in (f1, f2))
    odds = (np.log(p1 / (1 - p1)) + np.log(p2 / (1 - p2))) / 2
    weights = softmax(m, 2)[..., :C] * softmax(odds.max(axis=2, keepdims=True), 1)
    options = miaod_options("improved")
    instances = mil_instances(outputs, options)
    np.testing.assert_allclose(instances.weights[0], weights, rtol=1e-4, atol=1e-7)
    losses = unlabeled_losses([outputs], "min", options)
    apart = (np.abs(p1 - p2) * weights).mean(axis=2).sum(axis=1).mean()
    assert losses["discrepancy"].item() == pytest.approx(0.5 * apart, rel=1e-4)
    found = ((p1 + p2) / 2).max(axis=1) >= 0.5
    kept = found.any(axis=1)
    assert kept.any()
    expected = cross_entropy(weights.sum(axis=1)[kept], found[kept]) * kept.mean()
    assert losses["pseudo_labels"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("top_k", "count"), [(0.3, 3), (4, 4), (1.0, 10), (10_000, 10)])
def test_improved_uncertainty_is_the_mean_of_a_share_of_the_instances(top_k, count):
    outputs = random_outputs()
    f1, f2, _ = (np.concatenate(head, axis=1) for head in arrays(outputs))
    instances = np.square(softmax(f1, 2) - softmax(f2, 2))[..., :C].mean(axis=2)
    expected = np.sort(instances, axis=1)[:, -count:].mean(axis=1)
    uncertainty = mil.image_uncertainty(*class_logits(outputs, miaod_options("improved")), top_k=top_k)
    np.testing.assert_allclose(uncertainty, expected, rtol=1e-4)


def test_entropy_over_instances_is_that_of_the_softmax():
    data, name = make_digit_scenes(3, random_state=0), "ssdlite320_mobilenet_v3_large"
    detector = MIAODDetector(name, data.classes, detector_options=TINY_OPTIONS[name], max_steps=1, random_state=0)
    detector.fit(data.X[:2], data.y[:2])
    heads = {f"f{k + 1}": lambda outputs, k=k: torch.cat(outputs.heads[k], dim=1) for k in (0, 1)}
    f1, f2 = detector.map_pool(data.X, heads).values()
    p = softmax((f1.astype(np.float64) + f2) / 2, 2)
    expected = -(p * np.log(p)).sum(axis=2).mean(axis=1)
    entropy = EntropySampling(over="instances", aggregate="mean").utilities(detector, data.X)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(entropy, expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["faithful", "improved"])
@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_both_modes_train_and_query_softmax_detectors(name, mode):
    data = make_digit_scenes(8, random_state=0)
    losses = []
    estimator = MIAODDetector(
        name,
        data.classes,
        detector_options=TINY_OPTIONS[name],
        mode=mode,
        max_steps=12,
        random_state=0,
        on_step=lambda report: losses.append(report["losses"]),
    ).fit(data.X[:4], data.y[:4], unlabeled=data.X[4:])
    assert all(np.isfinite(list(step.values())).all() for step in losses)
    assert {"discrepancy", "agreement"} <= {loss for step in losses for loss in step}
    utilities = MIAODSampling().utilities(estimator, data.X[4:])
    assert utilities.shape == (4,) and (utilities > 0).all()
