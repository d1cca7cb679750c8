"""Detectors that compute in float64."""

import copy


def in_double(detector):
    """Return a copy that computes in float64, so that how a formula differs is not lost in how a network rounds."""
    double = copy.copy(detector)
    double.network_ = copy.deepcopy(detector.network_).double()
    double.network_.register_forward_pre_hook(lambda _, inputs: ([image.double() for image in inputs[0]], *inputs[1:]))
    return double
