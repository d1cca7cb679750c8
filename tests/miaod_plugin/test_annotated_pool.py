"""A pass over annotated images, and over several views of each image."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_detectors import TINY_OPTIONS
from torchvision.transforms.v2.functional import horizontal_flip, resize

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes, make_targets, read_image
from miaod_plugin.errors import ConfigError, DataError
from miaod_plugin.ranking.patient import PatientDetector
from miaod_plugin.ranking.row_file import RowFile
from miaod_plugin.training.batches import training_target

DATA = make_digit_scenes(5, random_state=3)
TORCHVISION_S = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
OPTIONS = TINY_OPTIONS | {TORCHVISION_S: {"weights": None, "min_size": 64, "max_size": 64}}


def detector(name="retinanet_tiny", **parameters):
    parameters = {"max_steps": 2, "random_state": 0, "device": "cpu", "score_batch_size": 4} | parameters
    return ObjectDetector(name, DATA.classes, detector_options=OPTIONS[name], **parameters).fit(DATA.X, DATA.y)


def losses(outputs):
    return torch.stack([sum(parts.values()) for parts in outputs.losses])


def embeddings(*outputs):
    return torch.stack([view.embeddings for view in outputs], dim=1)


def halved(image):
    return resize(image, [side // 2 for side in image.shape[1:]])


def same(image):
    return image


@pytest.mark.parametrize("name", ["retinanet_tiny", "ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn"])
def test_the_loss_of_an_image_is_the_network_s_of_the_image_alone(name):
    estimator = detector(name)
    found = estimator.map_pool(DATA.X, {"loss": losses}, y=DATA.y)["loss"]
    for x, target, loss in zip(DATA.X, DATA.y, found, strict=True):
        with torch.inference_mode():
            outputs = estimator.network_([read_image(x).float() / 255], [training_target(target)])
        assert loss == float(sum(outputs.loss.values()))
    assert len(set(found.tolist())) > 2  # SSD has none where no box is matched


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", TORCHVISION_S])
def test_where_proposals_are_drawn_the_loss_of_an_image_depends_on_nothing_but_the_image(name):
    estimator = detector(name)
    weights = {key: tensor.clone() for key, tensor in estimator.network_.state_dict().items()}
    together = estimator.map_pool(DATA.X, {"loss": losses}, y=DATA.y)["loss"]
    torch.rand(1)
    alone = [estimator.map_pool(DATA.X[k : k + 1], {"loss": losses}, y=DATA.y[k : k + 1])["loss"] for k in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert np.isfinite(together).all() and (together > 0).all()
    assert not any(module.training for module in estimator.network_.modules())
    assert all(torch.equal(weights[key], tensor) for key, tensor in estimator.network_.state_dict().items())


@pytest.mark.parametrize("name", ["retinanet_tiny", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_detections_of_annotated_images_are_those_of_a_pass_without_targets(name):
    estimator = detector(name)
    found = estimator.map_pool(DATA.X, {"found": lambda outputs: outputs.detections}, y=DATA.y)["found"]
    for one, other in zip(found, estimator.predict(DATA.X), strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in other)


def test_the_views_of_an_image_pass_side_by_side_and_alone(tmp_path):
    """Of images of several shapes, some of which are padded alike as they are and not when they are halved."""
    scene = make_digit_scenes(1, image_size=256, random_state=1).X[0]
    X = [str(tmp_path / f"{k}.png") for k in range(6)]
    for path, (height, width) in zip(
        X, [(128, 128), (80, 128), (128, 128), (100, 70), (128, 90), (128, 128)], strict=True
    ):
        Image.fromarray(scene[:height, :width]).save(path)
    estimator = detector()
    rows = estimator.map_pool(np.array(X), {"embeddings": embeddings}, views=[same, horizontal_flip, halved])
    for path, seen in zip(X, rows["embeddings"], strict=True):
        for view, row in zip((same, horizontal_flip, halved), seen, strict=True):
            with torch.inference_mode():
                alone = estimator.network_([view(read_image(path)).float() / 255]).embeddings[0].numpy()
            np.testing.assert_allclose(row, alone, rtol=1e-3, atol=1e-6)
        assert not np.allclose(seen[0], seen[1], rtol=1e-3) and not np.allclose(seen[0], seen[2], rtol=1e-3)


def test_a_patient_detector_passes_views_and_targets_on(tmp_path):
    X = np.array([str(tmp_path / f"{k}.png") for k in range(3)])
    for path, x in zip(X, DATA.X[:3], strict=True):
        Image.fromarray(x).save(path)
    estimator = detector()
    patient = PatientDetector(estimator, RowFile(tmp_path / "rows", "key"), lambda *_: None)
    for asked in ({"views": [same, halved]}, {"y": DATA.y[:3]}):
        reducers = {"x": losses if "y" in asked else embeddings}
        expected = estimator.map_pool(X, reducers, **asked)["x"]
        np.testing.assert_array_equal(patient.map_pool(X, reducers, **asked)["x"], expected)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, ConfigError, "^y: missing; the losses of images need their targets"),
        ({"y": DATA.y[:4]}, DataError, "^y: 4 targets for 5 images"),
        ({"y": make_targets([*DATA.y[:4], None])}, DataError, r"^y\[4\] is None; give a target for each image"),
        ({"y": DATA.y, "views": [same]}, ConfigError, "^views: .* pass y or views, not both"),
        ({"views": []}, ConfigError, "^views: there is none"),
        ({"views": [lambda image: image / 255]}, ConfigError, "^views: .* must make a uint8 tensor"),
        ({"views": [np.asarray]}, ConfigError, "^views: .* must make a uint8 tensor"),
    ],
)
def test_what_a_pass_cannot_do_is_refused_in_one_line(asked, error, message):
    with pytest.raises(error, match=message) as refused:
        detector().map_pool(DATA.X, {"loss": losses}, **asked)
    assert len(str(refused.value).splitlines()) == 1
