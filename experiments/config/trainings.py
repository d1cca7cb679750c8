"""The ways an arm's detector can be trained, all with the same number of optimiser steps."""

from collections.abc import Callable
from pathlib import Path

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.query import QueryStrategy
from miaod_plugin.registry import STRATEGIES, find
from miaod_plugin.training.identity import CHANGE_NO_RESULT

from .schema import ExperimentConfig
from .sections import FULL_SUPERVISION, SUPERVISED, SUPERVISED_TWO_HEADS, Arm


def training_of(arm: Arm) -> str:
    """Return the training of an arm; arms of one training share their model before the first query."""
    if arm.training == SUPERVISED and find(STRATEGIES, arm.strategy).requires_adversarial:
        return SUPERVISED_TWO_HEADS
    return arm.training


def has_two_heads(training: str) -> bool:
    """Whether a training has the two classifiers of MI-AOD."""
    return training not in (SUPERVISED, FULL_SUPERVISION)


def uses_unlabelled(training: str) -> bool:
    """Whether a training also learns from images without annotation."""
    return has_two_heads(training) and training != SUPERVISED_TWO_HEADS


def make_strategy(arm: Arm, random_state: int, training: str | None = None) -> QueryStrategy:
    """Return the query strategy of an arm, seeded, to be asked about a model of a training, by default the arm's."""
    strategy = find(STRATEGIES, arm.strategy)(**arm.options)
    parameters = strategy.get_params()
    if "random_state" in parameters:
        strategy.set_params(random_state=random_state)
    if (training or training_of(arm)) == SUPERVISED_TWO_HEADS and "adapt" in parameters.keys() - arm.options.keys():
        strategy.set_params(adapt=False)  # selection must not train, or the arm would no longer be supervised
    return strategy


def labelled_images(config: ExperimentConfig, training: str, cycle: int, n_pool: int, mean_cost: float) -> int:
    """Return how many images the budget of a cycle buys on average; all of them under full supervision."""
    if training == FULL_SUPERVISION:
        return n_pool
    return max(1, min(n_pool, round(config.budgets[cycle] / mean_cost)))


def optimiser_steps(config: ExperimentConfig, n_labelled: int) -> int:
    """Return the optimiser steps of one training with `n_labelled` images, the same for every arm: MI-AOD's own.

    That is its schedule with as many unlabelled images, also where fewer are left.
    """
    return MIAODDetector(**_shared(config), **config.miaod).total_steps(n_labelled, n_labelled)


def training_steps(config: ExperimentConfig, training: str, n_labelled: int) -> int:
    """Return the `optimiser_steps` of a training, or of full supervision its own, where the experiment says so."""
    if training == FULL_SUPERVISION and config.full_supervision_steps is not None:
        return config.full_supervision_steps
    return optimiser_steps(config, n_labelled)


def adapting_steps(config: ExperimentConfig, arm: Arm, n_labelled: int) -> int:
    """Return the optimiser steps that each query of an arm begins with, on a copy of the detector; mostly none."""
    if training_of(arm) != SUPERVISED_TWO_HEADS or not make_strategy(arm, 0).get_params().get("adapt"):
        return 0
    steps = {"max_steps": optimiser_steps(config, n_labelled)}
    return MIAODDetector(**_shared(config) | config.miaod | steps).adapting_steps(n_labelled, n_labelled)


def make_estimator(
    config: ExperimentConfig,
    training: str,
    classes: tuple[str, ...],
    steps: int,
    random_state: int,
    checkpoint: Path | None,
    on_step: Callable[[dict], None],
) -> ObjectDetector:
    """Return the unfitted estimator of one training."""
    own = {
        "classes": classes,
        "random_state": random_state,
        "checkpoint": checkpoint and str(checkpoint),
        "on_step": on_step,
    }
    if not has_two_heads(training):
        return ObjectDetector(**_shared(config) | own | {"max_steps": steps})
    return MIAODDetector(**_shared(config) | _miaod_parameters(config, training) | own | {"max_steps": steps})


def _miaod_parameters(config: ExperimentConfig, training: str) -> dict:
    """Return the parameters under `miaod` with what a variant changes; of its options, those it names."""
    variant = config.variants.get(training, {})
    parameters = config.miaod | variant
    if "options" in variant:
        parameters["options"] = (config.miaod.get("options") or {}) | (variant["options"] or {})
    return parameters


def load_estimator(config: ExperimentConfig, training: str, path: Path) -> ObjectDetector:
    """Return the fitted estimator saved at `path`, to work as the experiment now says."""
    estimator = (MIAODDetector if has_two_heads(training) else ObjectDetector).load(path, device=config.device)
    now = ObjectDetector(**_shared(config)).get_params()
    return estimator.set_params(**{name: now[name] for name in CHANGE_NO_RESULT})


def _shared(config: ExperimentConfig) -> dict:
    return {
        "detector": config.detector.name,
        "detector_options": config.detector.options or None,
        "device": config.device,
        **config.training,
    }
