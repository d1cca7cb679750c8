"""RetinaNet behind the adapter contract: torchvision's own numbers, padding, weights and frozen parts."""

import inspect
import re
import urllib.request
import zipfile

import numpy as np
import pytest
import torch
from torchvision.models import mobilenet_v2
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.ops import box_iou

from miaod_plugin.detectors import matching
from miaod_plugin.detectors.losses import focal_loss
from miaod_plugin.detectors.matching import match_anchors
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.retinanet import (
    RetinaNetClassifier,
    retinanet_mobilenet_v2_fpn,
    retinanet_resnet50_fpn,
    retinanet_tiny,
)
from miaod_plugin.errors import ConfigError
from miaod_plugin.registry import DETECTORS, find, registered

TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 60, 80], [50, 20, 90, 90]]), "labels": torch.tensor([0, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    {"boxes": torch.tensor([[5.0, 5, 20, 20]]), "labels": torch.tensor([1])},
]


def small_mobilenet(**options):
    return retinanet_mobilenet_v2_fpn(3, weights=None, min_size=96, max_size=160, fpn_channels=32, **options)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=generator) for size in ((100, 160), (160, 100), (96, 96))]


def test_losses_equal_torchvision_s(images):
    torch.manual_seed(0)
    network = DetectionNetwork(small_mobilenet(head_convs=4))
    network.classifiers[0].class_logits.bias.data.zero_()  # or the loss of a single anchor would be lost in rounding
    outputs = network(images, TARGETS)
    retinanet, features = network.detector.retinanet, outputs.features
    retinanet.head.classification_head = RetinaNetClassificationHead(32, 9, 3)  # holds the loss, not the logits
    expected = retinanet.compute_loss(
        features.targets,
        {"cls_logits": torch.cat(outputs.heads[0], dim=1), "bbox_regression": outputs.boxes},
        [features.anchors] * 3,
    )
    torch.testing.assert_close(outputs.loss["classification"], expected["classification"])
    torch.testing.assert_close(outputs.loss["box_regression"], expected["bbox_regression"])


def test_retinanet_tiny_reads_pixels_with_mean_a_half_and_deviation_a_quarter(images):
    detector, image = retinanet_tiny(2).eval(), images[0][:, :64, :64]
    expected = detector.retinanet.backbone(((image - 0.5) * 4)[None])
    torch.testing.assert_close(detector.features([image]).maps, list(expected.values()))


@torch.no_grad()
def test_logits_come_row_by_row_as_torchvision_s():
    torch.manual_seed(0)
    ours, theirs = RetinaNetClassifier(8, 2, 3), RetinaNetClassificationHead(8, 2, 3)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.copy_(own.normal_(std=0.3))
    oblong = torch.rand(2, 8, 3, 5)
    torch.testing.assert_close(ours([oblong])[0], theirs([oblong]))


def test_matching_equals_torchvision_s_matcher():
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(400, 2, generator=generator) * 80
    anchors = torch.cat([corners, corners + 5 + torch.rand(400, 2, generator=generator) * 60], dim=1)
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    matches = match_anchors(anchors, TARGETS, 0.5, 0.4)
    for image, target in enumerate(TARGETS):
        expected = matcher(box_iou(target["boxes"], anchors)) if len(target["boxes"]) else torch.full((400,), -1)
        assert torch.equal(matches[image], expected)
    assert {-2, -1, 0, 1} <= set(matches[0].tolist())


def test_matching_thousands_of_boxes_is_the_same_in_bounded_memory(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(340, 2, generator=generator) * 80
    boxes = torch.cat([corners, corners + 5 + torch.rand(340, 2, generator=generator) * 60], dim=1)
    targets = [{"boxes": boxes[:40]}, {"boxes": boxes[40:43]}, {"boxes": boxes[:0]}]
    at_once = match_anchors(boxes[40:], targets, 0.5, 0.4)
    monkeypatch.setattr(matching, "MOST_PAIRS", 7 * 3 * 300)
    assert torch.equal(match_anchors(boxes[40:], targets, 0.5, 0.4), at_once)
    assert len(set(at_once[0].tolist())) > 20


def test_matching_counts_an_overlap_of_exactly_a_threshold_and_the_first_of_equal_boxes(monkeypatch):
    monkeypatch.setattr(matching, "MOST_PAIRS", 1)  # one box at a time
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 40], [0, 0, 10, 41]])  # IoU 1, 1/2, 1/4, less
    twice = [{"boxes": torch.tensor([[0.0, 0, 10, 10]] * 2)}]
    assert matching.match_anchors(anchors, twice, 0.5, 0.25).tolist() == [[0, 0, -2, -1]]


def test_anchors_between_the_thresholds_add_nothing_to_the_focal_loss():
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    matches = torch.tensor([[-1, -2]])
    loss = focal_loss(torch.zeros(1, 2, 1), matches, matching.Positives.of(matches, targets))
    assert loss.item() == pytest.approx(0.75 * 0.5**2 * np.log(2))  # of the background alone


def test_images_without_any_box_have_a_finite_loss():
    network = DetectionNetwork(retinanet_tiny(3))
    loss = network([torch.rand(3, 64, 64)] * 2, [TARGETS[1]] * 2).loss
    assert loss["box_regression"] == 0 and torch.isfinite(loss["classification"])


def test_instances_on_padding_are_marked(images):
    outputs = DetectionNetwork(small_mobilenet(), adversarial=True)(images)
    for level, mask in zip(outputs.heads[0], outputs.valid, strict=True):
        assert mask.shape == level.shape[:2]
    assert not outputs.valid[0].all() and outputs.valid[0].any(dim=1).all()
    assert outputs.embeddings.shape == (3, 5 * 32) and torch.isfinite(outputs.embeddings).all()


def test_cells_count_whose_centre_is_on_the_image():
    outputs = DetectionNetwork(retinanet_tiny(2))([torch.rand(3, 60, 100), torch.rand(3, 128, 128)])
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[:7, :12] = True  # of 8 pixels: the centres of the next row and column, at 60 and 100, are beyond
    assert torch.equal(outputs.valid[0][0].view(16, 16, 6), expected[:, :, None].expand(16, 16, 6))
    level = outputs.features.maps[0][0]
    torch.testing.assert_close(outputs.embeddings[0, : len(level)], level[:, :7, :12].mean(dim=(1, 2)))


def test_equal_sizes_need_no_mask():
    assert DetectionNetwork(retinanet_tiny(2))([torch.rand(3, 64, 64)] * 2).valid is None


def test_detections_are_in_pixels_of_the_image_as_given(images):
    network = DetectionNetwork(small_mobilenet()).eval()
    network.detector.retinanet.score_thresh = 0.0
    with torch.no_grad():
        for image, found in zip(images, network(images).detections, strict=True):
            height, width = image.shape[-2:]
            assert 0 < len(found["boxes"]) <= 100
            assert found["boxes"].min() >= 0
            assert found["boxes"][:, [0, 2]].max() <= width + 1e-3 and found["boxes"][:, [1, 3]].max() <= height + 1e-3
            assert (found["scores"].diff() <= 0).all()


def test_the_two_heads_average_or_the_first_detects_alone():
    network = DetectionNetwork(retinanet_tiny(2), adversarial=True)
    outputs = network([torch.rand(3, 64, 64)])
    mean = (outputs.heads[0][0] + outputs.heads[1][0]) / 2
    torch.testing.assert_close(outputs.logits[0], mean)
    network.detect_with = "first"
    assert network([torch.rand(3, 64, 64)]).logits[0].shape == mean.shape
    outputs = network([torch.rand(3, 64, 64)])
    assert torch.equal(outputs.logits[0], outputs.heads[0][0])


def test_backbone_weights_load_from_a_local_file_and_stay_frozen(tmp_path):
    torch.manual_seed(3)
    source = mobilenet_v2()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    detector = retinanet_mobilenet_v2_fpn(2, weights=tmp_path / "weights.pth", frozen_stages=1)
    body = detector.retinanet.backbone.body
    assert torch.equal(body["4"].conv[0][0].weight, source.features[4].conv[0][0].weight)
    assert not any(p.requires_grad for k in "0123" for p in body[k].parameters())
    assert all(p.requires_grad for p in body["4"].parameters())
    assert not any(type(module).__name__ == "BatchNorm2d" for module in body.modules())


def whole_detector(path):
    """Write one as other libraries name it."""
    torch.save({"backbone.conv1.weight": torch.zeros(2), "bbox_head.bias": torch.zeros(2)}, path)


def much_larger(path):
    torch.save({"features.0.0.weight": torch.zeros(2), "optimizer": torch.zeros(30_000_000)}, path)


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", bytes(150_000_000))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "is not a file; give 'IMAGENET1K_V1', 'IMAGENET1K_V2', 'DEFAULT', a state dict's path"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: torch.save({"weights": pytest.approx}, path), "is no state dict, or damaged"),  # needs code
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(99)), "is no state dict, or damaged"),
        (lambda path: path.write_bytes(b""), "is no state dict, or damaged"),
        (lambda path: torch.save([1, 2], path), r"holds \[1, 2\]; give a state dict"),
        (lambda path: torch.save({"model": {"a": torch.zeros(2)}}, path), "holds .* give a state dict"),
        (lambda path: torch.save({"fc.weight": torch.zeros(2)}, path), r"does not fit MobileNetV2: Missing key\(s\)"),
        (whole_detector, "is a whole detector's \\('backbone.conv1.weight'\\); give those of its backbone alone"),
        (much_larger, r"has 120,\d\d\d,\d\d\d bytes, but MobileNetV2 only 14,"),
        (bomb, "has 150,000,000 bytes, but MobileNetV2 only"),
    ],
)
def test_bad_backbone_weights_are_one_line(tmp_path, write, message):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(ConfigError, match=rf"weights: .*weights\.pth {message}") as caught:
        retinanet_mobilenet_v2_fpn(2, weights=path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Let downloads go where nobody answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of the first download


def test_weights_that_cannot_be_downloaded_are_one_line(offline):
    with pytest.raises(ConfigError, match=r"MobileNet_V2_Weights.* cannot be downloaded \(.*refused\); try again"):
        retinanet_mobilenet_v2_fpn(2, weights="DEFAULT")


@pytest.mark.parametrize("name", sorted(set(registered(DETECTORS)) - {"retinanet_tiny"}))
def test_a_detector_starts_from_its_backbone_s_weights_unless_told_otherwise(offline, name):
    with pytest.raises(
        ConfigError, match=r"weights: (VGG16|ResNet50|MobileNet_V\w+)_Weights\.\w+ cannot be downloaded"
    ):
        find(DETECTORS, name)(2)


def test_weights_whose_name_no_file_can_have_are_one_line():
    with pytest.raises(ConfigError, match=r"weights: xxx.* is not a file"):
        retinanet_mobilenet_v2_fpn(2, weights="x" * 5000)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("frozen_stages", 5),
        ("frozen_stages", 1.0),
        ("batch_norm", "frosen"),
        ("p6_from", "C5"),
        ("anchor_size", 0),
        ("positives_of", "all"),
        ("min_size", "600"),
        ("max_size", None),
        ("min_size", 10**6),
        ("fpn_channels", 10**9),
        ("fpn_channels", True),
        ("head_convs", -1),
        ("image_mean", (0.5, 0.5)),
        ("image_mean", 0.5),
        ("image_std", (0.5, 0.5, 0.0)),
        ("image_std", (0.5, 0.5, "a")),
        ("weights", 5),
    ],
)
def test_bad_options_are_refused_by_name(option, value):
    with pytest.raises(ConfigError, match=re.escape(f"{option}: {value!r} is not allowed; give ")):
        retinanet_resnet50_fpn(2, **{"weights": None, option: value})


@pytest.mark.parametrize("name", registered(DETECTORS))
def test_every_built_in_detector_checks_every_option_it_has(name):
    factory = find(DETECTORS, name)
    for option in inspect.signature(factory).parameters:
        with pytest.raises(ConfigError, match=f"{option}: "):
            factory(**{"num_classes": 2, option: {"nothing": "of the kind"}})


def test_batch_norm_of_fixed_statistics_trains_its_scale_and_shift_alone():
    network = DetectionNetwork(small_mobilenet(batch_norm="fixed_statistics", frozen_stages=1)).train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([0])}]
    sum(network([torch.rand(3, 96, 96)], targets).loss.values()).backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    trained = [norm.weight.grad is not None for norm in norms]
    assert not trained[0] and all(trained[-5:])


def test_p6_from_the_backbone_is_made_from_its_last_stage():
    detector = retinanet_resnet50_fpn(2, weights=None, fpn_channels=16, p6_from="backbone")
    assert detector.retinanet.backbone.fpn.extra_blocks.p6.in_channels == 2048


def test_anchors_start_at_the_given_size():
    detector = small_mobilenet(anchor_size=12)
    features = detector.features([torch.zeros(3, 96, 96)])
    sides = (features.anchors[:, 2:] - features.anchors[:, :2]).prod(dim=1).sqrt()
    assert float(sides.min()) == pytest.approx(12, abs=1)


def test_losses_over_the_positives_of_the_batch_weigh_every_object_alike(images):
    torch.manual_seed(0)
    by_image = DetectionNetwork(small_mobilenet()).eval()
    by_batch = DetectionNetwork(small_mobilenet(positives_of="batch")).eval()
    by_batch.load_state_dict(by_image.state_dict())
    same_size = [image[:, :96, :96] for image in images]
    sums, positives = {"classification": 0.0, "box_regression": 0.0}, 0
    for image, target in zip(same_size, TARGETS, strict=True):
        alone = by_image([image], [target])
        count = int((match_anchors(alone.features.anchors, alone.features.targets, 0.5, 0.4) >= 0).sum())
        sums = {name: sums[name] + loss * max(count, 1) for name, loss in alone.loss.items()}
        positives += count
    batch = by_batch(same_size, TARGETS).loss
    for name, value in batch.items():
        torch.testing.assert_close(value, sums[name] / positives)
    assert not torch.isclose(batch["classification"], by_image(same_size, TARGETS).loss["classification"])
