"""What the classifiers read of each detection, in every family."""

import numpy as np
import pytest
import torch
from tiny_detectors import ONE_OF_EACH_FAMILY, TINY_OPTIONS, show_everything

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.errors import ConfigError
from miaod_plugin.strategies import ENMSSampling, EntropySampling

DATA = make_digit_scenes(5, random_state=0)


def fitted(name, options):
    estimator = ObjectDetector(name, DATA.classes, detector_options=options, max_steps=1, random_state=0)
    return show_everything(estimator.fit(DATA.X[:2], DATA.y[:2]))


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_features_of_a_detection_are_those_of_its_instance(name):
    seen = {}

    def reducer(outputs):
        seen.update(maps=outputs.features.maps, per_cell=outputs.features.anchors_per_cell)
        return [
            torch.cat([found["instances"][:, None], features], dim=1)
            for found, features in zip(outputs.detections, outputs.detection_features, strict=True)
        ]

    rows = fitted(name, TINY_OPTIONS[name]).map_pool(DATA.X[2:4], {"rows": reducer})["rows"]
    assert all(len(image) > 5 for image in rows)
    for k, image in enumerate(rows):
        for instance, *features in image[:: max(1, len(image) // 20)]:
            np.testing.assert_array_equal(np.array(features, np.float32), by_hand(k, int(instance), **seen))


def by_hand(image, instance, maps, per_cell):
    if maps[0].dim() == 3:  # proposals
        return maps[0][image, instance].numpy()
    widths = [level.shape[1] for level in maps]
    for number, (level, count) in enumerate(zip(maps, per_cell or [None] * len(maps), strict=True)):
        instances = level[image].flatten(1).T.repeat_interleave(count, dim=0).numpy()  # cells row by row
        if instance < len(instances):
            own = instances[instance]
            if len(set(widths)) == 1:
                return own
            zeros = [np.zeros(width, np.float32) for width in widths]
            return np.concatenate([*zeros[:number], own, *zeros[number + 1 :]])
        instance -= len(instances)
    raise AssertionError("there is no such instance")


def test_a_detector_that_does_not_say_where_detections_come_from_is_refused_in_one_line():
    options = {"weights": None, "min_size": 64, "max_size": 64}
    estimator = fitted("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", options)
    with pytest.raises(ConfigError, match=r"^detector: TorchvisionDetector does not say which instances its .*entropy"):
        ENMSSampling().query(estimator, DATA.X[2:], 1)
    assert len(EntropySampling().query(estimator, DATA.X[2:], 1)[0]) == 1
