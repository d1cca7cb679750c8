"""Detection models of torchvision as they are: the same losses and detections, every strategy but MI-AOD."""

import numpy as np
import pytest
import torch
from detector_batch import TARGETS, assert_same_detections, from_one, images
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn, retinanet_resnet50_fpn

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.baselines import CoreSetSampling, EntropySampling, RandomSampling
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.torchvision_model import TorchvisionDetector
from miaod_plugin.errors import ConfigError
from miaod_plugin.strategies import MIAODSampling

DATA = make_digit_scenes(8, random_state=0)
NAME = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
OPTIONS = {"weights": None, "min_size": 64, "max_size": 64}


@pytest.fixture(scope="module")
def estimator():
    return ObjectDetector(NAME, DATA.classes, detector_options=OPTIONS, max_steps=3, random_state=0).fit(
        DATA.X[:4], DATA.y[:4]
    )


def test_losses_and_detections_are_the_model_s_own():
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn(
        num_classes=4, weights=None, weights_backbone=None, min_size=96, max_size=96, score_thresh=0.009
    ).double()
    network = DetectionNetwork(TorchvisionDetector(model, 3))
    with torch.no_grad():
        loss = network.train()(images(), TARGETS).loss
        expected = model(images(), from_one(TARGETS))
        torch.testing.assert_close(loss, expected)
        outputs = network.eval()(images())
        assert_same_detections(outputs.detections, model(images()), first_label=1)
    assert outputs.embeddings.shape == (3, 5 * 256)


@pytest.mark.parametrize("strategy", [RandomSampling(0), EntropySampling(), CoreSetSampling()])
def test_every_strategy_but_miaod_queries_it(estimator, strategy):
    indices, utilities = strategy.query(estimator, DATA.X[4:], 2)
    assert len(set(indices.tolist())) == 2 and np.isfinite(utilities).all()


def test_it_survives_save_and_load_by_name(estimator, tmp_path):
    estimator.save(tmp_path / "model.safetensors")
    loaded = ObjectDetector.load(tmp_path / "model.safetensors")
    for ours, theirs in zip(estimator.predict(DATA.X[:2]), loaded.predict(DATA.X[:2]), strict=True):
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_a_model_of_one_s_own_goes_in_a_callable():
    def build(num_classes):
        model = fasterrcnn_mobilenet_v3_large_320_fpn(
            num_classes=num_classes + 1, weights_backbone=None, min_size=64, max_size=64
        )
        return TorchvisionDetector(model, num_classes)

    estimator = ObjectDetector(build, DATA.classes, max_steps=2, random_state=0).fit(DATA.X[:2], DATA.y[:2])
    assert set(estimator.losses_) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


def test_miaod_says_why_it_cannot_train_it(estimator):
    with pytest.raises(ConfigError, match="TorchvisionDetector can be trained supervised only; leave out `training`"):
        MIAODDetector(NAME, DATA.classes, detector_options=OPTIONS, max_steps=2).fit(DATA.X[:2], DATA.y[:2])
    with pytest.raises(ConfigError, match="MIAODSampling needs a detector trained by MIAOD"):
        MIAODSampling().query(estimator, DATA.X[4:], 1)


def test_entropy_over_instances_needs_instances(estimator):
    with pytest.raises(ConfigError, match="shows no instances; choose 'detections'"):
        EntropySampling(over="instances").query(estimator, DATA.X[4:], 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [("fcos_resnet5_fpn", "did you mean 'fcos_resnet50_fpn'"), ("maskrcnn_resnet50_fpn", "no box detector 'maskrcnn")],
)
def test_unknown_models_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        ObjectDetector(f"torchvision:{name}", DATA.classes, max_steps=1).fit(DATA.X[:2], DATA.y[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": "a"}, "min_size: 'a' is not allowed; give a whole number from 1 to 8,192, a tuple"),
        ({"min_size": [64, 10**9]}, r"min_size: \[64, 1000000000\] is not allowed"),
        ({"image_mean": 0.5}, "image_mean: 0.5 is not allowed; give 3 values, each a finite number"),
        ({"box_detections_per_img": 2.5}, "box_detections_per_img: 2.5 is not allowed; give a whole number"),
        ({"box_score_thresh": None}, "box_score_thresh: None is not allowed; give a finite number"),
        ({"no_such_option": 1}, "torchvision's fasterrcnn_mobilenet_v3_large_320_fpn has no 'no_such_option'"),
    ],
)
def test_options_that_torchvision_would_trip_over_are_refused_in_one_line(options, message):
    options = {"weights": None} | options
    with pytest.raises(ConfigError, match=f"detector_options: .*{message}"):
        ObjectDetector("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", DATA.classes, detector_options=options).fit(
            DATA.X[:2], DATA.y[:2]
        )
