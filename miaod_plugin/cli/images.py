"""The commands that train and evaluate a single detector on the data of an experiment."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import cut_list
from .parts import Checkpoint, load_detector

Experiment = Annotated[Path, typer.Argument(help="An experiment file.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Other values.")]
Device = Annotated[str | None, typer.Option(help="In place of the experiment's: auto, cpu, cuda, cuda:1, ...")]


def train(
    yaml: Experiment,
    overrides: Overrides = None,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", "-c", help="The file to write.")] = Path(
        "model.safetensors"
    ),
    training: Annotated[str, typer.Option(help="A registered training, or one of the experiment's.")] = "miaod",
    labelled: Annotated[
        int | None,
        typer.Option(min=1, help="Annotated images to use, drawn from the first seed; the rest is the pool."),
    ] = None,
    device: Device = None,
) -> None:
    """Train one detector on an experiment's data, without a loop."""
    import numpy as np

    from miaod_plugin.experiments.config.schema import load_config
    from miaod_plugin.experiments.config.trainings import make_estimator, optimiser_steps, training_of
    from miaod_plugin.experiments.store.datasets import load_data

    from ..errors import ConfigError
    from ..model_file import require_replaceable

    config = load_config(yaml, _with_device(overrides, device))
    uses_unlabeled = training_of(config, training).uses_unlabeled
    _use_threads(config.threads)
    data, _ = load_data(config)
    count = len(data) if labelled is None else labelled
    if count > len(data):
        raise ConfigError(f"--labelled: {count} is more than the {len(data)} images there are")
    seed = config.seeds[0]
    order = np.random.default_rng(seed).permutation(len(data))
    steps = optimiser_steps(config, count)

    def show(report: dict) -> None:
        if report["step"] % max(1, steps // 10) == 0:
            print(f"step {report['step']} of {steps}: {_losses(report['losses'])}", file=sys.stderr)

    require_replaceable(checkpoint)  # now rather than when the training is done
    half = checkpoint.with_name(f"{checkpoint.name}.half")
    estimator = make_estimator(config, training, data.classes, steps, seed, half, show)
    pool = data.X[order[count:]] if uses_unlabeled else None
    estimator.fit(data.X[order[:count]], data.y[order[:count]], unlabeled=pool).save(checkpoint)
    print(f"{checkpoint}: {steps} steps on {count} annotated images, {estimator.n_unlabeled_} unlabelled")


def evaluate(yaml: Experiment, checkpoint: Checkpoint, overrides: Overrides = None, device: Device = None) -> None:
    """Score a detector on an experiment's test images, and count what it gets wrong."""
    from rich.console import Console
    from rich.table import Table

    from miaod_plugin.experiments.config.schema import load_config
    from miaod_plugin.experiments.cycle.cycle import average_precision
    from miaod_plugin.experiments.store.datasets import load_data

    from ..errors import ConfigError
    from ..mistakes import count_mistakes

    config = load_config(yaml, _with_device(overrides, device))
    _use_threads(config.threads)
    estimator = load_detector(checkpoint, config.device)
    _, test = load_data(config)
    if list(test.classes) != estimator.classes_.tolist():
        raise ConfigError(f"{checkpoint}: {_difference(estimator.classes_.tolist(), list(test.classes))}")
    predictions = estimator.predict(test.X)
    scores = average_precision(predictions, test, config.evaluation.metric)
    per_class = scores.pop("per_class")
    table = Table("class", "AP (%)")
    for name, value in per_class.items():
        table.add_row(name, "-" if value is None else f"{100 * value:.1f}")
    Console().print(table)
    print(f"{len(test)} test images, {config.evaluation.metric}:", end=" ")
    print("  ".join(f"{name.upper()} {100 * value:.1f} %" for name, value in scores.items()))
    print(f"counting detections scored 0.5 or more:\n{count_mistakes(predictions, test.y, len(test.classes))}")


def _difference(known: list[str], there: list[str]) -> str:
    """Say in what the classes of a detector are not those of the data."""
    sides = (("the data has no", known, there), ("the detector knows no", there, known))
    missing = [(words, [name for name in these if name not in set(those)]) for words, these, those in sides]
    found = [f"{words} {cut_list(names)}" for words, names in missing if names]
    return f"its classes are not the data's: {', '.join(found) or 'they have another order'}"


def _with_device(overrides: list[str] | None, device: str | None) -> list[str]:
    return [*(overrides or []), *([] if device is None else [f"device={device}"])]


def _use_threads(threads: int | None) -> None:
    """Let torch use as many threads as the experiment gives each of its workers, or as many as it chooses itself."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def _losses(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
