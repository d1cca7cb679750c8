"""Detections of a batch at once are those of torchvision's post-processing, which goes image by image."""

from contextlib import contextmanager

import pytest
import torch
from pretended_gpu import GPU, PretendedGPU
from tiny_detectors import ONE_OF_EACH_FAMILY, TINY_OPTIONS
from torch.utils._pytree import tree_map_only

from miaod_plugin.data import make_digit_scenes, read_image
from miaod_plugin.detectors import postprocessing
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.randomness import seeded
from miaod_plugin.registry import DETECTORS, find

C = 3
IMAGES = [read_image(x).float() / 255 for x in make_digit_scenes(4, image_size=96, random_state=0).X]
IMAGES[1], IMAGES[2] = IMAGES[1][:, :60], IMAGES[2][:, :, :48]  # resized and padded in several ways


@pytest.fixture(scope="module", params=ONE_OF_EACH_FAMILY)
def case(request):
    """Return a detector, the logits, boxes and features of a batch; in its second image there is nothing to detect."""
    with seeded(0):
        network = DetectionNetwork(find(DETECTORS, request.param)(C, **TINY_OPTIONS[request.param])).eval()
    with seeded(0), torch.inference_mode():
        outputs = network(IMAGES)
        boxes = torch.randn_like(outputs.boxes) * 0.5
        logits = [torch.randn_like(level) * 2 for level in outputs.logits]
        for level in logits:
            level[1] = -20
            if network.detector.background:
                level[1, :, -1] = 0
        return network.detector, logits, boxes, outputs.features


def torchvision_s(detector):
    """Return torchvision's model that a detector holds, and the part of it that makes detections."""
    model = next(part for part in detector.children() if hasattr(part, "transform"))
    return model, getattr(model, "roi_heads", model)


def of_torchvision(detector, logits, boxes, features):
    """Return what torchvision makes of the same numbers."""
    model, part = torchvision_s(detector)
    first_label = int(detector.background)
    logits = [level.roll(first_label, dims=2) for level in logits]
    sizes = [level.shape[1] for level in logits]
    anchors = [features.anchors] * len(IMAGES)
    if part is not model:
        valid = features.valid[0]
        proposals = [of_image[mask] for of_image, mask in zip(features.anchors, valid, strict=True)]
        columns = part.postprocess_detections(logits[0][valid], boxes[valid], proposals, features.image_sizes)
        found = [dict(zip(("boxes", "scores", "labels"), image, strict=True)) for image in zip(*columns, strict=True)]
    elif detector.background:
        outputs = {"cls_logits": torch.cat(logits, dim=1), "bbox_regression": boxes}
        found = model.postprocess_detections(outputs, anchors, features.image_sizes)
    else:
        outputs = {"cls_logits": logits, "bbox_regression": boxes[..., :4].split(sizes, dim=1)}
        outputs["bbox_ctrness"] = boxes[..., 4:].split(sizes, dim=1)
        found = model.postprocess_detections(outputs, [a.split(sizes) for a in anchors], features.image_sizes)
    found = model.transform.postprocess(found, features.image_sizes, features.original_sizes)
    return [image | {"labels": image["labels"] - first_label} for image in found]


@contextmanager
def limited(detector, **limits):
    """Set thresholds where torchvision has them."""
    _, part = torchvision_s(detector)
    before = {name: getattr(part, name) for name in limits if hasattr(part, name)}
    for name in before:
        setattr(part, name, limits[name])
    yield
    for name, value in before.items():
        setattr(part, name, value)


LIMITS = [{}, {"score_thresh": 0.6, "detections_per_img": 3}, {"topk_candidates": 4}, {"score_thresh": 0.999999}]


@pytest.mark.parametrize("limits", LIMITS)
@torch.inference_mode()
def test_detections_are_torchvision_s(case, limits):
    detector, *numbers = case
    with limited(detector, **limits):
        found, expected = detector.detections(*numbers), of_torchvision(*case)
    assert any(len(image["scores"]) for image in expected) == (limits.get("score_thresh") != 0.999999)
    assert len(found) == len(expected) and len(found[1]["boxes"]) == 0
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours["boxes"], theirs["boxes"]) and torch.equal(ours["labels"], theirs["labels"])
        torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=2e-7, atol=0)  # the last bit, of FCOS
        assert ours["instances"].dtype == torch.int64 and ours["instances"].shape == ours["labels"].shape


@torch.inference_mode()
def test_of_equal_scores_none_is_lost(case):
    """Which comes first is left open, here and by torchvision, so that boxes must not compete."""
    detector, logits, boxes, features = case
    tied = [level.round() for level in logits]
    with limited(detector, nms_thresh=1.0, topk_candidates=10**6, detections_per_img=10**6):
        found, expected = detector.detections(tied, boxes, features), of_torchvision(detector, tied, boxes, features)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours["scores"].diff() <= 0).all()
        columns = ("scores", "labels", "boxes")
        rows = [sorted(zip(*(one[name].tolist() for name in columns), strict=True)) for one in (ours, theirs)]
        assert rows[0] == rows[1]
    assert len(found[0]["scores"].unique()) < len(found[0]["scores"])


def to_gpu(values):
    return tree_map_only(torch.Tensor, lambda x: x.to(GPU), values)


@pytest.mark.parametrize("at_once", [25_000, 1, 250])
@torch.inference_mode()
def test_a_gpu_detects_the_same_and_is_waited_for_a_few_times_a_batch(case, at_once, monkeypatch):
    monkeypatch.setattr(postprocessing, "MOST_AT_ONCE", at_once)
    detector, *numbers = case
    expected = detector.detections(*numbers)
    with PretendedGPU() as gpu:
        logits, boxes = to_gpu(numbers[:2])
        features = {name: to_gpu(value) for name, value in vars(numbers[2]).items()}
        features = type(numbers[2])(**features)
        gpu.count()
        found = detector.detections(logits, boxes, features)
        assert gpu.count() <= 8 + (at_once < 25_000) * 2 * len(IMAGES)
        found = tree_map_only(torch.Tensor, lambda x: x.cpu(), found)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours["instances"], theirs["instances"]) and torch.equal(ours["labels"], theirs["labels"])
        torch.testing.assert_close(ours["boxes"], theirs["boxes"])
        torch.testing.assert_close(ours["scores"], theirs["scores"])
