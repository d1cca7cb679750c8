"""FCOS and RetinaNet v2 behind the adapter contract: the numbers of torchvision's own models."""

import pytest
import torch
from detector_batch import TARGETS, assert_same_detections, images
from torchvision.models import detection

from miaod_plugin.detectors.fcos import fcos_resnet50_fpn
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.retinanet_v2 import retinanet_resnet50_fpn_v2
from miaod_plugin.errors import ConfigError

SIZES = {"min_size": 96, "max_size": 160}
THRESHOLDS = {"score_thresh": 0.005, "nms_thresh": 0.5, "detections_per_img": 100}
FACTORIES = {
    "fcos": (fcos_resnet50_fpn, detection.fcos_resnet50_fpn),
    "retinanet": (retinanet_resnet50_fpn_v2, detection.retinanet_resnet50_fpn_v2),
}


@pytest.fixture(params=sorted(FACTORIES), scope="module")
def twins(request):
    """Return a network of ours with two classifiers, and torchvision's own model with the weights of its first."""
    ours, theirs = FACTORIES[request.param]
    torch.manual_seed(0)
    options = {"weights": None, "batch_norm": "trained", "frozen_stages": 0, **SIZES}
    network = DetectionNetwork(ours(3, **options), adversarial=True, background=True)
    wrapped = getattr(network.detector, request.param)
    for name, value in THRESHOLDS.items():
        setattr(wrapped, name, value)
    model = theirs(num_classes=3, weights=None, weights_backbone=None, **SIZES, **THRESHOLDS)
    weights = wrapped.state_dict()
    prefix = "head.classification_head."
    model.load_state_dict(weights | {prefix + k: v for k, v in network.classifiers[0].head.state_dict().items()})
    return network.double().eval(), model.double().eval()


def test_losses_equal_torchvision_s(twins):
    network, model = twins
    expected = []
    for classifier in network.classifiers:
        model.head.classification_head.load_state_dict(classifier.head.state_dict())
        expected.append(train_losses(model))
    model.head.classification_head.load_state_dict(network.classifiers[0].head.state_dict())
    with torch.no_grad():
        loss = network(images(), TARGETS).loss
    mean = (expected[0]["classification"] + expected[1]["classification"]) / 2
    torch.testing.assert_close(loss["classification"], mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss["box_regression"], expected[0]["bbox_regression"], rtol=1e-5, atol=1e-6)
    if "centerness" in loss:
        torch.testing.assert_close(loss["centerness"], expected[0]["bbox_ctrness"], rtol=1e-5, atol=1e-6)
    assert len(loss) == len(expected[0]) and loss["box_regression"] > 0


def train_losses(model):
    """Return the losses of a torchvision model whose BatchNorm stays as it is."""
    model.training = True
    with torch.no_grad():
        losses = model(images(), [dict(target) for target in TARGETS])
    model.training = False
    return losses


def test_detections_equal_torchvision_s(twins):
    network, model = twins
    network.detect_with = "first"
    with torch.no_grad():
        assert_same_detections(network(images()).detections, model(images()))


def test_instances_on_padding_are_marked(twins):
    outputs = twins[0](images())
    for level, mask in zip(outputs.heads[0], outputs.valid, strict=True):
        assert mask.shape == level.shape[:2]
    assert not outputs.valid[0].all() and outputs.valid[0].any(dim=1).all()


def test_the_mil_head_has_one_class_more(twins):
    outputs = twins[0](images((96, 96)))
    assert outputs.mil_logits[0].shape[2] == outputs.heads[0][0].shape[2] + 1 == 4


@pytest.mark.parametrize("factory", [fcos_resnet50_fpn, retinanet_resnet50_fpn_v2])
def test_the_fewest_channels_allowed_train_on_one_image_whose_last_map_is_a_single_cell(factory):
    options = {"weights": None, "min_size": 32, "max_size": 32, "head_convs": 1}
    with pytest.raises(ConfigError, match="fpn_channels: 32 is not allowed; give a multiple of 32 from 64"):
        factory(2, **options, fpn_channels=32)
    network = DetectionNetwork(factory(2, **options, fpn_channels=64))
    target = {"boxes": torch.tensor([[4.0, 4.0, 24.0, 24.0]]), "labels": torch.tensor([1])}
    sum(network([torch.rand(3, 32, 32)], [target]).loss.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.classifiers.parameters())
