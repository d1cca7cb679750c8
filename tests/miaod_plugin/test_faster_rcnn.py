"""Faster R-CNN behind the adapter contract: torchvision's own numbers, proposals as instances."""

import pytest
import torch
from detector_batch import TARGETS, assert_same_detections, background_to_front, from_one, images
from torchvision.models import detection

from miaod_plugin import mil
from miaod_plugin.detectors.faster_rcnn import fasterrcnn_mobilenet_v3_large_320_fpn, fasterrcnn_resnet50_fpn
from miaod_plugin.detectors.network import DetectionNetwork
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


@torch.no_grad()
def test_losses_equal_torchvision_s(twins):
    network, model = twins
    torch.manual_seed(1)  # both draw the proposals they sample
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
    for ours, theirs in names.items():
        torch.testing.assert_close(loss[ours], expected[theirs], rtol=1e-5, atol=1e-6)
    assert loss["box_regression"] > 0


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
    counts = [len(labels) for labels in outputs.features.labels]
    assert outputs.valid[0].sum(dim=1).tolist() == counts
    assert outputs.heads[0][0].shape == (3, max(counts), 4) and outputs.mil_logits[0].shape[2] == 4


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
