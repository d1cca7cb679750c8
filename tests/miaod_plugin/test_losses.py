"""Losses of a whole batch at once are torchvision's, image by image, and so are their gradients."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detector_batch import TARGETS, from_one, images
from pretended_gpu import GPU, PretendedGPU
from tiny_detectors import TINY_OPTIONS
from torchvision.models.detection import FCOS
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.ops import box_iou

from miaod_plugin.detectors import matching
from miaod_plugin.detectors.losses import quality_focal_loss
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.retinanet_v2 import RetinaNetV2Detector
from miaod_plugin.registry import DETECTORS, find

CLASSES = 3


def crowd(seed, boxes=40):
    """Return the target of an image of 100 x 160 full of boxes that overlap, the first of them twice."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(boxes, 2, generator=generator).double() * torch.tensor([110.0, 60.0])
    corners = torch.cat([corners, corners + 4 + 40 * torch.rand(boxes, 2, generator=generator)], dim=1)
    labels = torch.randint(CLASSES, (boxes,), generator=generator)
    return {"boxes": torch.cat([corners, corners[:1]]), "labels": torch.cat([labels, (labels[:1] + 1) % CLASSES])}


BATCHES = {
    "padded images, one without boxes": (images(), TARGETS),
    "a single image": (images((100, 160)), TARGETS[:1]),
    "no boxes at all": (images((96, 96), (96, 96)), [TARGETS[1]] * 2),
    "many boxes and few": (images(*[(100, 160)] * 3), [TARGETS[0], crowd(0), crowd(1)]),
}


def retinanet_losses(detector, logits, boxes, features):
    model = detector.retinanet
    model.head.classification_head = RetinaNetClassificationHead(64, 9, CLASSES)  # holds the loss, not the logits
    model.head.regression_head._loss_type = "giou" if isinstance(detector, RetinaNetV2Detector) else "l1"
    found = model.compute_loss(features.targets, {"cls_logits": logits, "bbox_regression": boxes}, anchors_of(features))
    return {"classification": found["classification"], "box_regression": found["bbox_regression"]}


def ssd_losses(detector, logits, boxes, features):
    targets, matches = from_one(features.targets), []
    for target in targets:  # as its `forward` does
        empty = torch.full((len(features.anchors),), -1)
        iou = box_iou(target["boxes"], features.anchors)
        matches.append(detector.ssd.proposal_matcher(iou) if len(iou) else empty)
    outputs = {"cls_logits": logits.roll(1, dims=2), "bbox_regression": boxes}  # background first
    found = detector.ssd.compute_loss(targets, outputs, anchors_of(features), matches)
    return {"classification": found["classification"], "box_regression": found["bbox_regression"]}


def fcos_losses(detector, logits, boxes, features):
    outputs = {"cls_logits": logits, "bbox_regression": boxes[..., :4], "bbox_ctrness": boxes[..., 4:]}
    cells = [level.shape[-2] * level.shape[-1] for level in features.maps]
    found = detector.fcos.compute_loss(features.targets, outputs, anchors_of(features), cells)
    return {
        "classification": found["classification"],
        "box_regression": found["bbox_regression"],
        "centerness": found["bbox_ctrness"],
    }


def anchors_of(features):
    return [features.anchors] * len(features.image_sizes)


LOSSES = {
    "retinanet_resnet50_fpn": retinanet_losses,
    "retinanet_resnet50_fpn_v2": retinanet_losses,
    "fcos_resnet50_fpn": fcos_losses,
    "ssd300_vgg16": ssd_losses,
    "ssdlite320_mobilenet_v3_large": ssd_losses,
}


@pytest.fixture(params=LOSSES, scope="module")
def network(request):
    torch.manual_seed(0)
    detector = find(DETECTORS, request.param)(CLASSES, **TINY_OPTIONS[request.param])
    return request.param, DetectionNetwork(detector).double().eval()


@pytest.mark.parametrize("batch", BATCHES)
def test_losses_and_their_gradients_are_torchvision_s(network, batch):
    name, network = network
    with torch.no_grad():
        outputs = network(*BATCHES[batch])
    generator = torch.Generator().manual_seed(0)  # outputs of an untrained network hardly differ from box to box
    heads = [
        [2 * torch.randn(level.shape, generator=generator).double() for level in outputs.heads[0]] for _ in range(2)
    ]
    boxes = outputs.boxes + 0.3 * torch.randn(outputs.boxes.shape, generator=generator).double()
    read = [boxes.requires_grad_(), *(level.requires_grad_() for levels in heads for level in levels)]
    detector, features = network.detector, outputs.features
    both = [LOSSES[name](detector, torch.cat(levels, dim=1), boxes, features) for levels in heads]
    expected = both[0] | {"classification": (both[0]["classification"] + both[1]["classification"]) / 2}

    found = detector.loss(heads, boxes, features)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert (found["box_regression"] > 0) == (batch != "no boxes at all")
    for part in found:
        ours, theirs = (
            torch.autograd.grad(loss[part], read, retain_graph=True, materialize_grads=True)
            for loss in (found, expected)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5])
def test_a_gpu_is_waited_for_once_however_many_images_there_are(network, count):
    _, on_cpu = network
    with PretendedGPU() as gpu:
        detector = copy.deepcopy(on_cpu).to(GPU).detector
        targets = [{key: value.to(GPU) for key, value in target.items()} for target in (TARGETS * 2)[:count]]
        outputs = on_cpu(images(*[(96, 96)] * count))
        heads = [[level.detach().to(GPU).requires_grad_() for level in outputs.heads[0]]] * 2
        features = replace(outputs.features, anchors=outputs.features.anchors.to(GPU), targets=targets)
        gpu.count()
        sum(detector.loss(heads, outputs.boxes.detach().to(GPU).requires_grad_(), features).values()).backward()
        assert gpu.waits == {"nonzero": 1}


def test_default_boxes_match_from_exactly_the_threshold_on_and_the_last_box_takes_one_that_several_want(monkeypatch):
    monkeypatch.setattr(matching, "MOST_PAIRS", 1)  # one box at a time
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [50, 50, 60, 60]])  # IoU 1, 1/2, less, 0
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 2)
    targets = [{"boxes": boxes}, {"boxes": boxes[:0]}, {"boxes": anchors[3:]}]
    assert matching.match_default_boxes(anchors, targets, 0.5).tolist() == [[1, 0, -1, -1], [-1] * 4, [-1, -1, -1, 0]]


class GivesMatches:
    """Stands where torchvision's FCOS has its head, and returns the matches that it would compute losses of."""

    def compute_loss(self, targets, outputs, anchors, matches):
        return torch.stack(matches)


@pytest.mark.parametrize("at_once", [matching.MOST_PAIRS, 1])
def test_cells_match_boxes_of_all_sizes_as_in_torchvision(at_once, monkeypatch):
    monkeypatch.setattr(matching, "MOST_PAIRS", at_once)
    grids = [(768 // stride, 1024 // stride, stride) for stride in (8, 16, 32, 64, 128)]
    corners = [torch.cartesian_prod(torch.arange(w) * s, torch.arange(h) * s) for h, w, s in grids]
    cells = torch.cat([torch.cat([at - s / 2, at + s / 2], dim=1) for at, (*_, s) in zip(corners, grids, strict=True)])
    generator = torch.Generator().manual_seed(0)
    # on a grid of 4 pixels, where distances are often exactly a limit, and areas often the same
    centres = 4 * torch.randint(192, (75, 2), generator=generator)
    halves = 4 * torch.randint(1, 7, (75, 2), generator=generator) * torch.tensor([1, 2, 8, 24, 48] * 15)[:, None]
    boxes = torch.cat([centres - halves, centres + halves], dim=1).float()
    targets = [{"boxes": some} for some in (boxes[:50], boxes[:0], boxes[50:])]
    levels = [h * w for h, w, _ in grids]

    model = SimpleNamespace(center_sampling_radius=1.5, head=GivesMatches())
    expected = FCOS.compute_loss(model, targets, {}, [cells] * 3, levels)
    found = matching.match_cells(cells, targets, levels, 1.5)
    assert torch.equal(found, expected)
    assert all(len(level.unique()) > 2 for level in found.split(levels, dim=1))


def test_the_quality_focal_loss_is_zero_where_the_student_is_right_and_agrees_with_its_formula():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2, 7, 3)), rng.random((2, 7, 3))
    s = 1 / (1 + np.exp(-z))
    expected = (y - s) ** 2 * -(y * np.log(s) + (1 - y) * np.log(1 - s))
    np.testing.assert_allclose(quality_focal_loss(torch.tensor(z), torch.tensor(y)).numpy(), expected, rtol=1e-9)
    assert quality_focal_loss(torch.tensor(z), torch.tensor(z).sigmoid()).abs().max() == 0
