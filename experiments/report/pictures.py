"""The pictures of a report: what each arm picked, with what its model saw, and heatmaps of MI-AOD."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from miaod_plugin.baselines import RandomSampling
from miaod_plugin.data import read_image
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.mil.heatmaps import miaod_maps
from miaod_plugin.pages.pictures import Picture, heat_picture, heat_scale, photograph
from miaod_plugin.strategies import MIAODSampling

from ..config.trainings import load_estimator, make_strategy, training_of
from ..store.layout import Cell, Run
from ..store.records import Record, model_path, survey

MOST, LEAST = 4, 2  # images shown from the top and the bottom of a query's ranking
HEATMAPS = 4
MIN_SCORE, MAX_BOXES = 0.3, 12  # of the predictions that are drawn


@dataclass(frozen=True)
class Selection:
    """Pictures of the most and the least informative images of one query, and why there may be no box on them."""

    arm: str
    most: list[Picture]
    least: list[Picture]
    hint: str


def selections(run: Run, arms: list[str], train: DetectionData) -> list[tuple[int, list[Selection]]]:
    """Return for each cycle that ended in a query what each arm picked, of the first seed that has it."""
    seed = run.config.seeds[0]
    rows = {name: row for row, name in enumerate(train.ids.tolist())}
    blind = {arm.name for arm in run.config.arms if isinstance(make_strategy(run.config, arm, 0), RandomSampling)}
    by_cycle: dict[int, list[Selection]] = {}
    for cell, record in survey(run).records.items():
        if cell.seed != seed or cell.arm not in arms or not record.selected:
            continue
        picked = record.selected
        shown = picked[:MOST] + picked[max(MOST, len(picked) - LEAST) :]
        estimator = load_estimator(run.config, model_path(run, cell))
        predictions = estimator.predict(train.X[[rows[one["id"]] for one in shown]])
        pictures = [
            _picture(one["id"], train, rows, prediction, "" if cell.arm in blind else f"{one['utility']:.3g}")
            for one, prediction in zip(shown, predictions, strict=True)
        ]
        selection = Selection(cell.arm, pictures[:MOST], pictures[MOST:], hint(predictions))
        by_cycle.setdefault(cell.cycle, []).append(selection)
    return sorted(by_cycle.items())


def hint(predictions: Iterable[dict]) -> str:
    """Return why no box is drawn on any of some pictures, or nothing where one is."""
    best = max((float(score) for prediction in predictions for score in prediction["scores"]), default=None)
    if best is None:
        return "The model finds no box on these images."
    return f"No box on these images has a score of {MIN_SCORE} or more; the highest is {best:.2g}." * (best < MIN_SCORE)


@dataclass(frozen=True)
class HeatmapRow:
    """An image and its maps by name."""

    image: Picture
    maps: dict[str, Picture]


@dataclass(frozen=True)
class Heatmaps:
    """Maps of some images by the model of a cycle; each kind of map has one scale, shown by a colour bar."""

    cell: Cell
    bars: dict[str, Picture]
    rows: list[HeatmapRow]
    hint: str


def heatmaps(run: Run, arms: list[str], train: DetectionData) -> Heatmaps | None:
    """Return MI-AOD's maps of the images first in its last query, by that cycle's model.

    The arm is the first one trained with two classifiers that selects by their discrepancy, or else just trained so.
    """
    records = survey(run).records
    cell = _heatmap_cell(run, arms, records)
    if cell is None:
        return None
    rows = {name: row for row, name in enumerate(train.ids.tolist())}
    ids = [one["id"] for one in records[cell].selected[:HEATMAPS]]
    images = train.X[[rows[name] for name in ids]]
    estimator = load_estimator(run.config, model_path(run, cell))
    reducers = {
        "maps": lambda outputs: miaod_maps(outputs, estimator.training_.options_),
        "detections": lambda outputs: outputs.detections,
    }
    passed = estimator.map_pool(images, reducers)
    uncertainties = MIAODSampling().utilities(estimator, images)
    tops = {kind: max(float(maps[kind].max()) for maps in passed["maps"]) for kind in passed["maps"][0]}
    table = []
    for name, image, maps, prediction, uncertainty in zip(
        ids, images, passed["maps"], passed["detections"], uncertainties, strict=True
    ):
        picture = _picture(name, train, rows, prediction, f"{name}, uncertainty {uncertainty:.3g}")
        pixels = read_image(image)
        heats = {kind: heat_picture(name, pixels, heat, tops[kind]) for kind, heat in maps.items()}
        table.append(HeatmapRow(picture, heats))
    bars = {kind: heat_scale(top) for kind, top in tops.items()}
    return Heatmaps(cell, bars, table, hint(passed["detections"]))


def _heatmap_cell(run: Run, arms: list[str], records: dict[Cell, Record]) -> Cell | None:
    strategies = {arm.name: arm.strategy for arm in run.config.arms}
    cells = [
        cell
        for cell, record in records.items()
        if cell.arm in arms
        and record.selected
        and cell.seed == run.config.seeds[0]
        and MIAODSampling().reads(type(training_of(run.config, cell.training)))
    ]
    best = sorted(cells, key=lambda cell: (strategies[cell.arm] == "miaod", cell.training == "miaod", cell.cycle))
    return best[-1] if best else None


def _picture(name: str, train: DetectionData, rows: dict, prediction: dict, caption: str) -> Picture:
    drawn = np.flatnonzero(prediction["scores"] >= MIN_SCORE)[:MAX_BOXES]
    names = [train.classes[label] for label in prediction["labels"][drawn]]
    image, scores = read_image(train.X[rows[name]]), prediction["scores"][drawn].tolist()
    return photograph(name, image, prediction["boxes"][drawn], names, scores, caption)
