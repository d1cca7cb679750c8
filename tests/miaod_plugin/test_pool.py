"""What a pass over a pool says of images that a detector is not made for."""

import warnings

import numpy as np
import pytest

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes, make_targets

DATA = make_digit_scenes(2, random_state=0)
LARGE = np.zeros((1, 512, 576, 3), np.uint8)


def tiny():
    return ObjectDetector("retinanet_tiny", DATA.classes, detector_options={"width": 8}, max_steps=1, random_state=0)


def test_photographs_for_a_detector_of_small_images_bring_a_warning_in_training_and_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = tiny().fit(DATA.X, DATA.y)
        detector.predict(DATA.X)
    with pytest.warns(UserWarning, match="18 times the pixels .* 128 x 128.* retinanet_mobilenet_v2_fpn") as said:
        detector.predict(LARGE)
    assert len(said) == 1
    with pytest.warns(UserWarning, match="18 times"):
        tiny().fit(LARGE, make_targets(DATA.y[:1]))


def test_a_detector_that_resizes_its_images_is_made_for_all():
    options = {"weights": None, "size": 64, "reduced_tail": True}
    detector = ObjectDetector(
        "ssdlite320_mobilenet_v3_large", DATA.classes, detector_options=options, max_steps=1, random_state=0
    ).fit(DATA.X, DATA.y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.predict(LARGE)
