"""SSD300 and SSDLite behind the adapter contract: the numbers of torchvision's own models."""

import pytest
import torch
from detector_batch import TARGETS, assert_same_detections, background_to_front, from_one, images
from torch import nn
from torchvision.models import detection, mobilenet_v3_large

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.ssd import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from miaod_plugin.errors import ConfigError

THRESHOLDS = {"score_thresh": 0.02, "nms_thresh": 0.45, "detections_per_img": 200}
FACTORIES = {
    "ssd300": (ssd300_vgg16, detection.ssd300_vgg16, {}),
    "ssdlite": (ssdlite320_mobilenet_v3_large, detection.ssdlite320_mobilenet_v3_large, {"reduced_tail": True}),
}


@pytest.fixture(params=sorted(FACTORIES), scope="module")
def twins(request):
    """Return a network of ours and torchvision's own model of full size with the same weights, not training."""
    ours, theirs, options = FACTORIES[request.param]
    torch.manual_seed(0)
    network = DetectionNetwork(ours(3, weights=None, **options)).eval()
    model = theirs(num_classes=4, weights=None, weights_backbone=None, **THRESHOLDS).eval()
    model.topk_candidates = network.detector.ssd.topk_candidates
    head = {f"head.classification_head.{k}": v for k, v in network.classifiers[0].head.state_dict().items()}
    model.load_state_dict(network.detector.ssd.state_dict() | head)
    for layer in model.head.classification_head.module_list:
        background_to_front(layer if isinstance(layer, nn.Conv2d) else layer[1], 3)
    return network.double(), model.double()


@torch.no_grad()
def test_losses_and_detections_equal_torchvision_s(twins):
    network, model = twins
    batch, targets = images()[:2], TARGETS[:2]
    outputs = network(batch, targets)
    assert outputs.boxes.shape[1] in (8732, 3234)  # default boxes of SSD300, as in its paper, and of SSDLite320
    model.training = True  # the model alone, BatchNorm stays as it is
    expected = model(batch, from_one(targets))
    model.training = False
    torch.testing.assert_close(outputs.loss["classification"], expected["classification"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs.loss["box_regression"], expected["bbox_regression"], rtol=1e-5, atol=1e-5)
    assert_same_detections(outputs.detections, model(batch), first_label=1)


def test_default_boxes_are_made_once_and_again_only_for_another_type(monkeypatch):
    detector, made = ssd300_vgg16(2, weights=None, size=64), []
    make = detector.ssd.anchor_generator.forward
    monkeypatch.setattr(detector.ssd.anchor_generator, "forward", lambda *args: made.append(args) or make(*args))
    with torch.inference_mode():
        first = detector.features([torch.rand(3, 64, 64)]).anchors
    assert detector.features([torch.rand(3, 90, 70)] * 2).anchors is first and len(made) == 1
    assert (
        detector.double().features([torch.rand(3, 64, 64).double()]).anchors.dtype == torch.float64 and len(made) == 2
    )
    targets = [{"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}]
    network = DetectionNetwork(detector.float())
    sum(network([torch.rand(3, 64, 64)], targets).loss.values()).backward()  # not with boxes made for inference


def test_small_images_leave_out_the_maps_that_do_not_fit():
    with torch.no_grad():
        small = DetectionNetwork(ssd300_vgg16(2, weights=None, size=64)).double().eval()(images((64, 64)))
    assert [level.shape[1] for level in small.heads[0]] == [8 * 8 * 4, 4 * 4 * 6, 2 * 2 * 6, 6]
    centres = (small.features.anchors[:, :2] + small.features.anchors[:, 2:]) / 2
    assert centres.min() > 0 and centres.max() < 64


def test_a_single_labelled_image_is_enough_for_ssdlite():
    data = make_digit_scenes(1, random_state=0)
    options = {"weights": None, "size": 64}
    estimator = ObjectDetector("ssdlite320_mobilenet_v3_large", data.classes, detector_options=options, max_steps=2)
    losses = estimator.fit(data.X, data.y).losses_
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses.values())


def test_weights_load_from_a_local_file(tmp_path):
    source = mobilenet_v3_large()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    detector = ssdlite320_mobilenet_v3_large(2, weights=tmp_path / "weights.pth", size=64, frozen_stages=1)
    body = detector.ssd.backbone.features[0]
    assert torch.equal(body[0][0].weight, source.features[0][0].weight)
    assert not body[0][0].weight.requires_grad and body[4].block[0][0].weight.requires_grad


def test_a_reduced_tail_has_no_weights_to_download():
    with pytest.raises(ConfigError, match="reduced_tail"):
        ssdlite320_mobilenet_v3_large(2, reduced_tail=True)


def test_the_default_boxes_have_the_scales_asked_for():
    scales = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)  # the original's for VOC
    detector = ssd300_vgg16(2, weights=None, size=64, scales=scales).double()
    anchors = detector.features(images((64, 64), (64, 64))).anchors
    torch.testing.assert_close(anchors[0, 2:] - anchors[0, :2], torch.tensor([6.4, 6.4], dtype=anchors.dtype))
    with pytest.raises(ConfigError, match="give 7 values, each a number above 0"):
        ssd300_vgg16(2, weights=None, scales=(0.1, 0.2))
