"""The short way to a detector that MI-AOD trains."""

from collections.abc import Callable, Sequence
from inspect import signature

from .estimator import ObjectDetector
from .mil.training import MIAOD


def MIAODDetector(
    detector: str | Callable = "retinanet_resnet50_fpn", classes: Sequence | None = None, **parameters
) -> ObjectDetector:
    """Return ``ObjectDetector(detector, classes, training=MIAOD(...), ...)``.

    With unlabelled images, its `fit` runs the whole schedule of MI-AOD, without them label-set training alone.

    Parameters
    ----------
    detector, classes
        As in `ObjectDetector`.
    **parameters
        Those of `MIAOD`, such as `rounds` or `mode`, and those of `ObjectDetector`, such as `max_steps`.

    Examples
    --------
    >>> from miaod_plugin import MIAODDetector
    >>> from miaod_plugin.data import make_digit_scenes
    >>> data = make_digit_scenes(8, random_state=0)
    >>> detector = MIAODDetector("retinanet_tiny", classes=data.classes, rounds=1, max_steps=10, random_state=0)
    >>> detector.fit(data.X[:4], data.y[:4], unlabeled=data.X[4:]).n_unlabeled_
    4
    """
    own = {name: parameters.pop(name) for name in signature(MIAOD).parameters if name in parameters}
    return ObjectDetector(detector, classes, training=MIAOD(**own), **parameters)
