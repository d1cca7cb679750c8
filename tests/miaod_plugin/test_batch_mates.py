"""What shares a batch leaves no trace: images of different shapes, alone, together and in any order."""

from itertools import product

import numpy as np
import pytest
import torch
from tiny_detectors import TINY_OPTIONS, show_everything
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.baselines import EntropySampling
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.data.images import store_image
from miaod_plugin.detectors.base import group_by_padded_size
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.retinanet import retinanet_mobilenet_v2_fpn, retinanet_tiny
from miaod_plugin.detectors.torchvision_parts import padded_size
from miaod_plugin.mil.objective import unlabeled_losses
from miaod_plugin.mil.options import miaod_options
from miaod_plugin.pool import WAITING, padded_alike
from miaod_plugin.registry import DETECTORS, find, registered
from miaod_plugin.strategies import MIAODSampling

SCENES = make_digit_scenes(6, image_size=150, random_state=2)
# heights and widths; resized to 64 pixels, several end within one multiple of 32 and some do not
SHAPES = [(64, 64), (64, 150), (90, 121), (64, 150), (150, 65), (37, 50)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    crops = [x[:height, :width] for x, (height, width) in zip(SCENES.X, SHAPES, strict=True)]
    return np.array([str(store_image(crop, folder / str(k))) for k, crop in enumerate(crops)])


@pytest.fixture(scope="module", params=registered(DETECTORS))
def detector(request, paths):
    estimator = MIAODDetector(
        request.param,
        SCENES.classes,
        detector_options=TINY_OPTIONS[request.param] | wider(request.param),
        max_steps=3,
        random_state=0,
        score_batch_size=4,
        device="cpu",
    )
    estimator.fit(SCENES.X[:2, :64, :64], [no_boxes(), no_boxes()], unlabeled=SCENES.X[2:4, :64, :64])
    return show_everything(estimator)


def wider(name):
    return {"max_size": 200} if "max_size" in TINY_OPTIONS[name] else {}


def no_boxes():
    return {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}


def tensor(x, height=64, width=64):
    return torch.from_numpy(x[:height, :width].transpose(2, 0, 1) / 255).float()


def rows(estimator, X):
    options = estimator.training_.options_
    reducers = {
        "embedding": lambda outputs: outputs.embeddings,
        "utility": MIAODSampling().reducer(options),
        "weighted utility": MIAODSampling(average="weights").reducer(options),
        "detections": lambda outputs: outputs.detections,
    }
    entropy = EntropySampling(over="instances", aggregate="mean").utilities(estimator, X)
    return {**estimator.map_pool(X, reducers), "entropy": entropy}


def assert_alike(first, second):
    for name in ("embedding", "utility", "weighted utility", "entropy"):
        scale = np.abs(first[name]).max()  # an element near zero is compared with the others' size
        np.testing.assert_allclose(first[name], second[name], rtol=1e-3, atol=1e-5 * scale, err_msg=name)
    for one, other in zip(first["detections"], second["detections"], strict=True):
        assert len(one["scores"]) == len(other["scores"]) > 0
        np.testing.assert_allclose(one["scores"], other["scores"], rtol=1e-3)


def test_an_image_scores_the_same_alone_in_any_batch_and_in_any_order(detector, paths):
    together = rows(detector, paths)
    alone = [rows(detector, paths[k : k + 1]) for k in range(len(paths))]
    assert_alike(together, {name: np.concatenate([one[name] for one in alone]) for name in together})
    order = np.random.default_rng(0).permutation(len(paths))
    shuffled = rows(detector, paths[order])
    assert_alike({name: values[order] for name, values in together.items()}, shuffled)


def test_losses_on_unlabelled_images_are_the_mean_or_sum_of_those_of_each_image(detector):
    images = [
        torch.from_numpy(x[:h, :w].transpose(2, 0, 1) / 255).float() for x, (h, w) in zip(SCENES.X, SHAPES, strict=True)
    ]
    network = detector.network_
    with torch.no_grad():
        together = [network(group) for group in group_by_padded_size(network.detector, images)]
        each = [network([image]) for image in images]
    assert len(together) < len(each)
    for mode, kind in product(("improved", "faithful"), ("min", "max")):
        options = miaod_options(mode, {"pseudo_label_threshold": 0.0})
        with torch.no_grad():
            batch = unlabeled_losses(together, kind, options)
            alone = [unlabeled_losses([outputs], kind, options) for outputs in each]
        for name, loss in batch.items():
            parts = torch.stack([losses[name] for losses in alone])
            summed = mode == "faithful" and name != "pseudo_labels"
            torch.testing.assert_close(loss, parts.sum() if summed else parts.mean(), rtol=1e-3, atol=1e-7)
            assert loss > 0


@pytest.mark.parametrize("copies", [1, 4])
def test_the_improved_discrepancy_weighs_the_same_at_every_batch_size_and_the_faithful_one_grows(copies):
    torch.manual_seed(0)
    network = DetectionNetwork(retinanet_tiny(5), adversarial=True, background=True).eval()
    image = tensor(SCENES.X[0])
    for mode, factor in (("improved", 1), ("faithful", copies)):
        with torch.no_grad():
            one = unlabeled_losses([network([image])], "min", miaod_options(mode))["discrepancy"]
            many = unlabeled_losses([network([image] * copies)], "min", miaod_options(mode))["discrepancy"]
        torch.testing.assert_close(many, factor * one)


def test_an_image_without_pseudo_label_adds_nothing_and_takes_nothing_from_the_others():
    torch.manual_seed(0)
    network = DetectionNetwork(retinanet_tiny(5), adversarial=True, background=True).eval()
    images = [tensor(x) for x in SCENES.X[:4]]
    with torch.no_grad():
        best = [float(torch.cat(network([image]).logits, dim=1).sigmoid().max()) for image in images]
        options = miaod_options("improved", {"pseudo_label_threshold": sorted(best)[2] - 1e-6})
        batch = unlabeled_losses([network(images)], "min", options)["pseudo_labels"]
        alone = [unlabeled_losses([network([image])], "min", options)["pseudo_labels"] for image in images]
    assert sum(float(loss) == 0 for loss in alone) in (1, 2)
    torch.testing.assert_close(batch, torch.stack(alone).mean())


def test_an_image_counts_the_cells_that_lie_on_it_and_none_of_the_padding():
    detector = retinanet_mobilenet_v2_fpn(2, weights=None, min_size=600, max_size=1000, fpn_channels=4, head_convs=0)
    features = detector.eval().features([torch.rand(3, 600, 1000), torch.rand(3, 1000, 600)])
    first = features.valid[0].view(2, *features.maps[0].shape[-2:], -1)[..., 0]
    assert first[0].any(dim=1).sum() == 75 and first[0].any(dim=0).sum() == 125  # 600 / 8 and 1000 / 8
    alone = detector.features([torch.rand(3, 600, 1000)])
    first = alone.valid[0].view(1, *alone.maps[0].shape[-2:], -1)[..., 0]
    assert first.shape[1:] == (76, 128) and first[0].any(dim=1).sum() == 75  # 608 x 1024 with its padding


def test_the_padded_size_is_the_one_that_torchvision_pads_to():
    rng = np.random.default_rng(0)
    for _ in range(300):
        low, multiple = int(rng.integers(20, 90)), int(rng.choice([1, 32, 64]))
        high = low + int(rng.integers(0, 90))
        height, width = (int(side) for side in rng.integers(20, 200, 2))
        for fixed in (None, (low, high)):
            transform = GeneralizedRCNNTransform(low, high, [0.5] * 3, [0.5] * 3, multiple, fixed).eval()
            batch, _ = transform([torch.zeros(3, height, width)])
            assert padded_size(transform, height, width) == tuple(batch.tensors.shape[-2:])


@pytest.mark.parametrize("name", registered(DETECTORS))
def test_every_detector_tells_the_size_that_an_image_is_padded_to(name):
    detector = find(DETECTORS, name)(2, **TINY_OPTIONS[name]).eval()
    for height, width in ((64, 64), (150, 64), (90, 121)):
        with torch.no_grad():
            features = detector.features([torch.rand(3, height, width)])
        assert detector.padded_size(height, width) == features.padded_size


def test_batches_hold_images_padded_alike_and_little_waits():
    rng = np.random.default_rng(1)
    shapes = [(3, int(side), 1) for side in rng.choice([1, 2, 3, *range(10, 60)], 400)]
    images, most, seen = ((k, torch.full(shape, k)) for k, shape in enumerate(shapes)), 0, []
    for batch in padded_alike(images, lambda image: image.shape, 5):
        assert len({tuple(image.shape) for image in batch.values()}) == 1 and 0 < len(batch) <= 5
        assert all((image == index).all() for index, image in batch.items())
        seen += list(batch)
        most = max(most, max(seen) + 1 - len(seen))
    assert sorted(seen) == list(range(400)) and most <= WAITING * 5


def test_a_model_of_torchvision_s_own_scores_each_image_as_if_alone(paths):
    options = {"weights": None, "min_size": 64, "max_size": 128}
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    estimator = ObjectDetector(name, SCENES.classes, detector_options=options, max_steps=1, random_state=0)
    estimator.fit(SCENES.X[:2, :64, :64], [no_boxes(), no_boxes()])
    alone = np.concatenate([estimator.transform(paths[k : k + 1]) for k in range(len(paths))])
    np.testing.assert_allclose(estimator.transform(paths), alone, rtol=1e-3, atol=1e-6)
