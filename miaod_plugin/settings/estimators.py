"""What settings may say of the estimator and of its training."""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..estimator import ObjectDetector
from ..registry import TRAININGS, find, registered
from ..training.base import Training
from .sections import WrongKeyError, check_keys, check_values, options_of

# Parameters of the estimator that are decided elsewhere, or that differ from one training to the next.
SET_BY_THE_RUNNER = {
    "detector", "detector_options", "classes", "device", "devices", "random_state", "cache", "checkpoint", "on_step",
    "verbose", "training", "warm_start",
}  # fmt: skip
COMMON_PARAMETERS = set(ObjectDetector().get_params()) - SET_BY_THE_RUNNER


def check_common(parameters: Mapping[str, Any], own: str) -> None:
    """Raise a `WrongKeyError` that names the first parameter which not every training has.

    `own` is where those of a training stand, with ``{}`` for its name.
    """
    for key in parameters.keys() - COMMON_PARAMETERS:
        if having := [name for name in registered(TRAININGS) if key in options_of(find(TRAININGS, name))]:
            place = own.format(having[-1])
            raise WrongKeyError(key, f"is a parameter of {' and '.join(having)} alone; write it under '{place}'")
    check_keys(parameters, COMMON_PARAMETERS, "key")
    check_values(parameters, ObjectDetector)


def check_own(training: type[Training], own: Mapping[str, Any], where: str, common: str) -> None:
    """Raise a `WrongKeyError` that names what is wrong with a training's own parameters, after `where`.

    `common` is where parameters of the estimator stand.
    """
    known = options_of(training)
    for key in own:
        if key in COMMON_PARAMETERS and key not in known:
            raise WrongKeyError(f"{where}.{key}", f"is common to all trainings; write it under {common!r}")
    check_keys(own, known, "key", f"{where}.")
    check_values(own, training, f"{where}.")


def check_whole(training: Training, where: str) -> None:
    """Raise a `WrongKeyError` that names the parameter, after `where`, with which a training refuses to work."""
    try:
        training.check()
    except ConfigError as error:
        key, colon, reason = str(error).partition(": ")
        if not colon or key.split(".")[0] not in options_of(type(training)):
            raise WrongKeyError(where, str(error)) from None
        raise WrongKeyError(f"{where}.{key}", reason) from None
