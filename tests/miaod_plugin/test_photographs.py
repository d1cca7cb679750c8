"""What detectors of photographs take, declared once, and shown by each as its own."""

import inspect
import pickle

import pytest

from miaod_plugin.detectors.options import Channels, Classes, GroupedChannels, HeadConvs
from miaod_plugin.detectors.photographs import GroupedPhotographs, Photographs, takes_photographs
from miaod_plugin.detectors.retinanet import retinanet_mobilenet_v2_fpn
from miaod_plugin.errors import ConfigError


@takes_photographs(min_size=320)
def wide(num_classes: Classes, photographs: Photographs, *, head_convs: HeadConvs = 2):
    """Return what it was given.

    Parameters
    ----------
    head_convs : int
        3 x 3 convolutions in each head.
    """
    return num_classes, photographs, head_convs


@takes_photographs(GroupedPhotographs)
def grouped(num_classes: Classes, photographs: GroupedPhotographs):
    """Return what it was given."""
    return photographs


def test_a_factory_shows_shared_options_before_its_own_with_its_own_defaults():
    parameters = inspect.signature(wide).parameters
    assert list(parameters) == ["num_classes", *Photographs.__dataclass_fields__, "head_convs"]
    assert (parameters["min_size"].default, parameters["max_size"].default) == (320, 1000)
    assert parameters["fpn_channels"].annotation == Channels
    assert inspect.signature(grouped).parameters["fpn_channels"].annotation == GroupedChannels
    assert wide.__doc__.index("weights : str") < wide.__doc__.index("head_convs : int")


def test_shared_options_arrive_together():
    assert wide(3, max_size=640, head_convs=1) == (3, Photographs(min_size=320, max_size=640), 1)
    assert grouped(3, fpn_channels=64).fpn_channels == 64


@pytest.mark.parametrize(
    "options, message",
    [
        ({"min_size": 0}, "min_size: 0 is not allowed; give a whole number from 1 to 8,192"),
        ({"head_convs": 9}, "head_convs: 9 is not allowed"),
        ({"image_std": (1, 1)}, "image_std: .* give 3 values"),
    ],
)
def test_shared_options_are_checked_like_a_factory_s_own(options, message):
    with pytest.raises(ConfigError, match=message):
        wide(3, **options)
    with pytest.raises(TypeError, match="fpn_chanels"):
        wide(3, fpn_chanels=64)


def test_a_factory_reaches_another_process():
    assert pickle.loads(pickle.dumps(retinanet_mobilenet_v2_fpn)) is retinanet_mobilenet_v2_fpn
