"""Active learning for object detection with a scikit-learn / modAL interface."""

from miaod_plugin.estimator import ObjectDetector
from miaod_plugin.learner import DetectionLearner
from miaod_plugin.miaod_estimator import MIAODDetector

__all__ = ["DetectionLearner", "MIAODDetector", "ObjectDetector"]
