"""The commands for a single detector: train, evaluate, predict, rank."""

import csv
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", "-c", help="A detector that `train`, a run or `save` wrote.", show_default=False)
]
Experiment = Annotated[Path, typer.Argument(help="An experiment file.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Other values.")]


def train(
    yaml: Experiment,
    overrides: Overrides = None,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", "-c", help="The file to write.")] = Path(
        "model.safetensors"
    ),
    training: Annotated[Literal["supervised", "miaod"], typer.Option(help="How to train.")] = "miaod",
    labelled: Annotated[
        int | None,
        typer.Option(min=1, help="Annotated images to use, drawn from the first seed; the rest is the pool."),
    ] = None,
) -> None:
    """Train one detector on an experiment's data, without a loop."""
    import numpy as np

    from miaod_plugin.errors import ConfigError
    from miaod_plugin.experiments.datasets import load_data
    from miaod_plugin.experiments.schema import load_config
    from miaod_plugin.experiments.trainings import make_estimator, optimiser_steps

    config = load_config(yaml, overrides or [])
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

    half = checkpoint.with_name(f"{checkpoint.name}.half")
    estimator = make_estimator(config, training, data.classes, steps, seed, half, show)
    pool = data.X[order[count:]] if training == "miaod" else None
    estimator.fit(data.X[order[:count]], data.y[order[:count]], unlabeled=pool).save(checkpoint)
    print(f"{checkpoint}: {steps} steps on {count} annotated images, {estimator.n_unlabeled_} unlabelled")


def evaluate(yaml: Experiment, checkpoint: Checkpoint, overrides: Overrides = None) -> None:
    """Score a detector on an experiment's test images."""
    from rich.console import Console
    from rich.table import Table

    from miaod_plugin.errors import ConfigError
    from miaod_plugin.estimator import ObjectDetector
    from miaod_plugin.experiments.cycle import average_precision
    from miaod_plugin.experiments.datasets import load_data
    from miaod_plugin.experiments.schema import load_config

    config = load_config(yaml, overrides or [])
    estimator = ObjectDetector.load(checkpoint)
    _, test = load_data(config)
    if list(test.classes) != estimator.classes_.tolist():
        raise ConfigError(f"{checkpoint} knows {', '.join(estimator.classes_)}; the data has {', '.join(test.classes)}")
    scores = average_precision(estimator, test, config.evaluation.metric)
    per_class = scores.pop("per_class")
    table = Table("class", "AP (%)")
    for name, value in per_class.items():
        table.add_row(name, "-" if value is None else f"{100 * value:.1f}")
    Console().print(table)
    print(f"{len(test)} test images, {config.evaluation.metric}:", end=" ")
    print("  ".join(f"{name.upper()} {100 * value:.1f} %" for name, value in scores.items()))


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("predictions"),
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score of a box that is drawn.")] = 0.3,
    heatmap: Annotated[bool, typer.Option("--heatmap", help="Also draw discrepancy, MIL weight and product.")] = False,
) -> None:
    """Draw what a detector finds in images, and print how uncertain it is about each."""
    import numpy as np

    from miaod_plugin.data import read_image
    from miaod_plugin.drawing import draw_detections, overlay, side_by_side
    from miaod_plugin.errors import ConfigError
    from miaod_plugin.estimator import ObjectDetector
    from miaod_plugin.files import atomic_path
    from miaod_plugin.heatmaps import miaod_maps
    from miaod_plugin.registry import STRATEGIES, find

    estimator = ObjectDetector.load(checkpoint)
    adversarial = hasattr(estimator, "adapted_to")
    if heatmap and not adversarial:
        raise ConfigError(f"--heatmap: {checkpoint} holds a supervised detector; train one with --training miaod")
    targets = {path: out / f"{path.stem}.png" for path in images}
    if len(set(targets.values())) < len(targets):
        raise ConfigError(f"{out}: several of the images have the same name; give them one at a time")
    strategy = find(STRATEGIES, "miaod")(adapt=False)
    reducers = {"detections": lambda outputs: outputs.detections}
    if heatmap:
        reducers["maps"] = lambda outputs: miaod_maps(outputs, estimator.options_)
    for path, target in targets.items():
        X = np.array([str(path)])
        rows, image = estimator.map_pool(X, reducers), read_image(str(path))
        found = rows["detections"][0]
        shown = {name: value[found["scores"] >= threshold] for name, value in found.items()}
        picture = draw_detections(image, shown, estimator.classes_)
        if heatmap:
            maps = {name: overlay(image, heat, heat.max()) for name, heat in rows["maps"][0].items()}
            picture = side_by_side({"detections": picture, **maps})
        with atomic_path(target) as temporary:
            picture.save(temporary, format="PNG")
        uncertainty = f", uncertainty {strategy.utilities(estimator, X)[0]:.4g}" if adversarial else ""
        print(f"{target}: {len(shown['scores'])} boxes{uncertainty}")


def rank(
    folder: Annotated[Path, typer.Argument(help="Folder of images without annotation.", show_default=False)],
    checkpoint: Checkpoint,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images to pick.")] = 100,
    strategy: Annotated[str, typer.Option(help="A registered query strategy.")] = "miaod",
    labelled: Annotated[
        Path | None, typer.Option(help="Folder of the images annotated so far, which core-set starts from.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of strategies that draw at random.")] = 0,
    out: Annotated[Path, typer.Option(help="The CSV to write.")] = Path("ranking.csv"),
) -> None:
    """Rank a folder of images by how much their annotation would teach a detector."""
    from miaod_plugin.data import load_folder
    from miaod_plugin.errors import ConfigError
    from miaod_plugin.estimator import ObjectDetector
    from miaod_plugin.files import atomic_path
    from miaod_plugin.registry import STRATEGIES, find

    query_strategy = find(STRATEGIES, strategy)(random_state=seed)
    if "adapt" in query_strategy.get_params():
        query_strategy.set_params(adapt=False)  # a checkpoint knows no labelled images to train on
    estimator = ObjectDetector.load(checkpoint)
    if labelled is not None:
        estimator.X_labeled_ = load_folder(labelled).X
    elif strategy == "coreset":
        raise ConfigError("--strategy coreset starts from the annotated images; give their folder with --labelled")
    pool = load_folder(folder)
    picked, utilities = query_strategy.query(estimator, pool.X, min(n, len(pool)))
    found = estimator.predict(pool.X[picked])
    with atomic_path(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "path", "uncertainty", "expected_boxes"])
        for number, (row, utility, detections) in enumerate(zip(picked, utilities, found, strict=True), start=1):
            # the scores are probabilities, so their sum is the number of boxes to expect
            writer.writerow([number, pool.ids[row], f"{utility:.6g}", f"{detections['scores'].sum():.2f}"])
    print(f"{out}: the {len(picked)} images of {len(pool)} to annotate next, by {strategy}")


def _losses(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
