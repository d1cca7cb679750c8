"""The ways an arm's detector can be trained, all with the same number of optimiser steps."""

from collections.abc import Callable
from pathlib import Path

from miaod_plugin import ObjectDetector, Training
from miaod_plugin.query import QueryStrategy
from miaod_plugin.training.identity import CHANGE_NO_RESULT

from .schema import ExperimentConfig
from .sections import FULL_SUPERVISION, SUPERVISED, Arm
from .training_sections import training_named


def training_of(config: ExperimentConfig, name: str) -> Training:
    """Return the training that an arm names, or full supervision's; arms of one training share their first model."""
    return training_named(config.trainings, SUPERVISED if name == FULL_SUPERVISION else name)


def make_strategy(config: ExperimentConfig, arm: Arm, random_state: int, training: str | None = None) -> QueryStrategy:
    """Return the query strategy of an arm, seeded, to be asked about a model of a training, by default the arm's."""
    strategy = arm.new_strategy()
    if "random_state" in strategy.get_params():
        strategy.set_params(random_state=random_state)
    told = strategy.adapts_by is None or _says(arm.options, strategy.adapts_by)
    if not told and not training_of(config, training or arm.training).uses_unlabeled:
        # selection must not train, or the arm would learn from unlabelled images
        strategy.set_params(**{strategy.adapts_by: False})
    return strategy


def _says(options: dict, parameter: str) -> bool:
    """Whether options name a parameter, ``strategy__adapt`` for that of a strategy inside another."""
    outer, _, inner = parameter.partition("__")
    if not inner:
        return outer in options
    said = options.get(outer)
    return isinstance(said, dict) and _says(said.get("options") or {}, inner)


def labelled_images(config: ExperimentConfig, training: str, cycle: int, n_pool: int, mean_cost: float) -> int:
    """Return how many images the budget of a cycle buys on average; all of them under full supervision."""
    if training == FULL_SUPERVISION:
        return n_pool
    return max(1, min(n_pool, round(config.budgets[cycle] / mean_cost)))


def optimiser_steps(config: ExperimentConfig, n_labelled: int) -> int:
    """Return the optimiser steps of one training with `n_labelled` images, the same for every arm.

    They are those of the longest plan, with as many unlabelled images, also where fewer are left. Where arms learn from
    unlabelled images, their plans alone count: the others are given as many steps.
    """
    trainings = [training_of(config, name) for name in dict.fromkeys(arm.training for arm in config.arms)]
    trainings = [training for training in trainings if training.uses_unlabeled] or trainings
    shared = _shared(config)
    return max(ObjectDetector(**shared, training=one).total_steps(n_labelled, n_labelled) for one in trainings)


def training_steps(config: ExperimentConfig, training: str, n_labelled: int) -> int:
    """Return the `optimiser_steps` of a training, or of full supervision its own, where the experiment says so."""
    if training == FULL_SUPERVISION and config.full_supervision_steps is not None:
        return config.full_supervision_steps
    return optimiser_steps(config, n_labelled)


def preparing_steps(config: ExperimentConfig, arm: Arm, n_labelled: int) -> int:
    """Return the optimiser steps that each query of an arm begins with, on copies of the detector; mostly none."""
    training = training_of(config, arm.training)
    planned = _shared(config) | {"training": training, "max_steps": optimiser_steps(config, n_labelled)}
    n_unlabelled = n_labelled if training.uses_unlabeled else 0
    return make_strategy(config, arm, 0).preparing_steps(ObjectDetector(**planned), n_labelled, n_unlabelled)


def make_estimator(
    config: ExperimentConfig,
    training: str,
    classes: tuple[str, ...],
    steps: int,
    random_state: int,
    checkpoint: Path | None,
    on_step: Callable[[dict], None],
    cache: Path | None = None,
) -> ObjectDetector:
    """Return the unfitted estimator of one training."""
    own = {
        "classes": classes,
        "random_state": random_state,
        "cache": cache and str(cache),
        "checkpoint": checkpoint and str(checkpoint),
        "on_step": on_step,
        "training": training_of(config, training),
        "max_steps": steps,
    }
    return ObjectDetector(**_shared(config) | own)


def load_estimator(config: ExperimentConfig, path: Path, cache: Path | None = None) -> ObjectDetector:
    """Return the fitted estimator saved at `path`, to work as the experiment now says."""
    estimator = ObjectDetector.load(path, device=config.device)
    now = ObjectDetector(**_shared(config)).get_params()
    return estimator.set_params(cache=cache and str(cache), **{name: now[name] for name in CHANGE_NO_RESULT})


def _shared(config: ExperimentConfig) -> dict:
    return {
        "detector": config.detector.name,
        "detector_options": config.detector.options or None,
        "device": config.device,
        "devices": config.devices,
        **config.training,
    }
