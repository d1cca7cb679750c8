"""Faster R-CNN behind the adapter contract: torchvision's own numbers, proposals as instances."""

import pytest
import torch
from detector_batch import TARGETS, assert_same_detections, background_to_front, from_one, images
from torchvision.models import detection
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from miaod_plugin import mil
from miaod_plugin.detectors.faster_rcnn import fasterrcnn_mobilenet_v3_large_320_fpn, fasterrcnn_resnet50_fpn
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.proposals import balanced_sample
from miaod_plugin.mil.objective import labeled_losses, unlabeled_losses
from miaod_plugin.mil.options import miaod_options

SIZES = {"min_size": 96, "max_size": 160}
COUNTS = {"rpn_pre_nms_top_n_test": 40, "rpn_post_nms_top_n_test": 40, "box_batch_size_per_image": 64}
FACTORIES = {
    "resnet50": (fasterrcnn_resnet50_fpn, detection.fasterrcnn_resnet50_fpn, {}),
    "mobilenet": (
        fasterrcnn_mobilenet_v3_large_320_fpn,
        detection.fasterrcnn_mobilenet_v3_large_320_fpn,
        {"rpn_score_thresh": 0.0},
    ),
}


@pytest.fixture(params=sorted(FACTORIES), scope="module")
def twins(request):
    """Return a network of ours and torchvision's own model with the same weights, not training."""
    ours, theirs, keywords = FACTORIES[request.param]
    torch.manual_seed(0)
    options = {
        "weights": None,
        "batch_norm": "trained",
        "frozen_stages": 0,
        "proposals": 40,
        "sampled_proposals": 64,
    }
    network = DetectionNetwork(ours(3, **SIZES, **options)).eval()
    model = theirs(num_classes=4, weights=None, weights_backbone=None, **SIZES, **COUNTS, **keywords).eval()
    predictor = {
        "roi_heads.box_predictor.cls_score.weight": network.classifiers[0].class_logits.weight,
        "roi_heads.box_predictor.cls_score.bias": network.classifiers[0].class_logits.bias,
        "roi_heads.box_predictor.bbox_pred.weight": network.detector.box_predictor.weight,
        "roi_heads.box_predictor.bbox_pred.bias": network.detector.box_predictor.bias,
    }
    model.load_state_dict(network.detector.rcnn.state_dict() | predictor)
    background_to_front(model.roi_heads.box_predictor.cls_score, 3)
    return network.double(), model.double()


def losses_of_both(network, model):
    """Return the losses of ours and of torchvision's training, by our names."""
    torch.manual_seed(1)
    loss = network(images(), TARGETS).loss
    for module in (model, model.rpn, model.roi_heads):
        module.training = True  # BatchNorm stays as it is
    torch.manual_seed(1)
    expected = model(images(), from_one(TARGETS))
    model.eval()
    names = {
        "classification": "loss_classifier",
        "box_regression": "loss_box_reg",
        "objectness": "loss_objectness",
        "proposal_regression": "loss_rpn_box_reg",
    }
    assert loss.keys() == names.keys()
    return loss, {ours: expected[theirs] for ours, theirs in names.items()}


@torch.no_grad()
def test_losses_equal_torchvision_s_where_all_is_sampled(twins, monkeypatch):
    network, model = twins
    for one in (network.detector.rcnn, model):
        for part in (one.rpn, one.roi_heads):
            monkeypatch.setattr(part.fg_bg_sampler, "batch_size_per_image", 100_000)
    loss, expected = losses_of_both(network, model)
    for name, value in expected.items():
        torch.testing.assert_close(loss[name].to(value), value, rtol=1e-5, atol=1e-6)
    assert loss["box_regression"] > 0 and loss["proposal_regression"] > 0


class OurSample:
    """Our sample of anchors where torchvision's models ask for theirs: a mask of positives and of negatives each."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __call__(self, labels):
        matches = torch.stack(labels).long() - 1  # of 1, 0 and -1
        rows, sampled = balanced_sample(matches, self.sampler)
        taken = torch.zeros_like(matches).scatter_add_(1, rows, sampled.long())
        return [*(taken * (matches >= 0))], [*(taken * (matches == -1))]


@torch.no_grad()
def test_the_proposal_network_s_losses_equal_torchvision_s_of_the_same_sample(twins, monkeypatch):
    network, model = twins
    monkeypatch.setattr(model.rpn, "fg_bg_sampler", OurSample(network.detector.rcnn.rpn.fg_bg_sampler))
    loss, expected = losses_of_both(network, model)
    for name in ("objectness", "proposal_regression"):
        torch.testing.assert_close(loss[name].to(expected[name]), expected[name], rtol=1e-5, atol=1e-6)


def test_each_anchor_is_sampled_as_often_as_by_torchvision():
    torch.manual_seed(0)
    sampler = BalancedPositiveNegativeSampler(8, 0.5)
    kinds = torch.tensor([[1] * 6 + [0] * 10 + [-1] * 4, [1] * 2 + [0] * 3 + [-1] * 15])
    ours, theirs = torch.zeros(2, 20), torch.zeros(2, 20)
    for _ in range(2000):
        rows, sampled = balanced_sample(kinds - 1, sampler)
        taken = torch.zeros(2, 20).scatter_add_(1, rows, sampled.float())
        assert taken.max() == 1 and taken.sum(dim=1).tolist() == [8, 5]
        ours += taken
        theirs += torch.stack([p + n for p, n in zip(*sampler([*kinds]), strict=True)])
    assert (ours - theirs).abs().max() < 2000 * 0.08  # five standard deviations of a difference
    assert ours[:, 16:].sum() == 0 and ours[1, :5].tolist() == [2000] * 5


@torch.no_grad()
def test_detections_equal_torchvision_s(twins):
    network, model = twins
    assert_same_detections(network(images()).detections, model(images()), first_label=1)


def tiny(**options):
    torch.manual_seed(0)
    options = {"weights": None, "fpn_channels": 16, "head_features": 32, "proposals": 30, **SIZES} | options
    return DetectionNetwork(fasterrcnn_mobilenet_v3_large_320_fpn(3, **options), adversarial=True).double()


def test_unlabelled_images_have_the_proposals_of_test_time_in_every_round():
    network = tiny().train()
    in_training = network(images()).features
    network.eval()
    with torch.no_grad():
        at_test_time = network(images()).features
    assert in_training.anchors.shape[1] <= 30 and in_training.labels is None
    assert in_training.anchors.shape[2] == 4 and in_training.valid[0].shape == in_training.anchors.shape[:2]
    assert torch.equal(in_training.anchors, at_test_time.anchors)


def test_images_have_as_many_valid_instances_as_proposals():
    network = tiny(sampled_proposals=16)
    outputs = network(images(), TARGETS)
    assert outputs.valid[0].tolist() == [[True] * 16] * 3
    assert outputs.heads[0][0].shape == (3, 16, 4) and outputs.mil_logits[0].shape[2] == 4
    network.detector.rcnn.rpn.score_thresh = 1.0  # no proposals but the images' own boxes
    outputs = network(images(), TARGETS)
    assert outputs.valid[0].sum(dim=1).tolist() == [2, 0, 1]
    assert sorted(outputs.features.labels[outputs.valid[0]].tolist()) == [0, 1, 2]
    assert all(torch.isfinite(loss) for loss in outputs.loss.values())


def test_an_image_without_a_proposal_has_no_uncertainty_and_no_detection():
    network = tiny().eval()
    network.detector.rcnn.rpn.score_thresh = 1.0
    with torch.no_grad():
        outputs = network(images())
        assert [len(found["boxes"]) for found in outputs.detections] == [0, 0, 0]
        assert mil.image_uncertainty(*outputs.heads, top_k=0.1, valid=outputs.valid).tolist() == [0, 0, 0]
        for mode in ("improved", "faithful"):
            losses = unlabeled_losses([outputs], "min", miaod_options(mode))
            assert losses["discrepancy"] == 0 and torch.isfinite(losses["pseudo_labels"])


def test_the_images_embedding_is_that_of_its_feature_maps():
    network = tiny().eval()
    with torch.no_grad():
        assert network(images()).embeddings.shape == (3, 3 * 16)


def test_the_proposal_network_learns_with_the_labelled_batch_only():
    network = tiny().train()
    sum(unlabeled_losses([network(images())], "min", miaod_options()).values()).backward()
    head = network.detector.rcnn.rpn.head
    assert all(parameter.grad is None for parameter in head.parameters())
    sum(labeled_losses(network(images(), TARGETS), "min", miaod_options()).values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
