"""The pictures of a report: what each arm picked, with what its model saw, and heatmaps of MI-AOD."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from miaod_plugin.baselines import RandomSampling
from miaod_plugin.data import read_image
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.drawing import Place, colour_bar, free_place, overlay
from miaod_plugin.mil.heatmaps import miaod_maps
from miaod_plugin.strategies import MIAODSampling

from ..config.trainings import load_estimator, make_strategy, training_of
from ..store.layout import Cell, Run
from ..store.records import Record, model_path, survey

MOST, LEAST = 4, 2  # images shown from the top and the bottom of a query's ranking
HEATMAPS = 4
LONGEST = 256  # of a picture's longer side: pixels at most, and always units of its drawing
MIN_SCORE, MAX_BOXES = 0.3, 12  # of the predictions that are drawn
LETTER, LONGEST_NAME = 16, 14  # of the names of classes: units of height, and letters that are shown


@dataclass(frozen=True)
class Box:
    """A predicted box in units of its drawing, and where its label goes (left, baseline) if there is room."""

    x: float
    y: float
    width: float
    height: float
    label: str
    score: float
    place: tuple[float, float] | None


@dataclass(frozen=True)
class Picture:
    """A JPEG as a data URI, the size of its drawing, whose longer side is 256 units, and the boxes drawn over it."""

    id: str
    uri: str
    width: float
    height: float
    boxes: list[Box]
    caption: str = ""


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
        heats = {kind: _heat_picture(name, pixels, heat, tops[kind]) for kind, heat in maps.items()}
        table.append(HeatmapRow(picture, heats))
    bars = {kind: _whole(f"0 to {top:.3g}", colour_bar(top, LONGEST)) for kind, top in tops.items()}
    return Heatmaps(cell, bars, table, hint(passed["detections"]))


def _heatmap_cell(run: Run, arms: list[str], records: dict[Cell, Record]) -> Cell | None:
    strategies = {arm.name: arm.strategy for arm in run.config.arms}
    cells = [
        cell
        for cell, record in records.items()
        if cell.arm in arms
        and record.selected
        and cell.seed == run.config.seeds[0]
        and MIAODSampling.reads(type(training_of(run.config, cell.training)))
    ]
    best = sorted(cells, key=lambda cell: (strategies[cell.arm] == "miaod", cell.training == "miaod", cell.cycle))
    return best[-1] if best else None


def _picture(name: str, train: DetectionData, rows: dict, prediction: dict, caption: str) -> Picture:
    pixels = Image.fromarray(read_image(train.X[rows[name]]).permute(1, 2, 0).numpy())
    unit = LONGEST / max(pixels.size)
    size = pixels.width * unit, pixels.height * unit
    drawn = np.flatnonzero(prediction["scores"] >= MIN_SCORE)[:MAX_BOXES]
    names = [train.classes[label] for label in prediction["labels"][drawn]]
    boxes = place_boxes(prediction["boxes"][drawn] * unit, names, prediction["scores"][drawn].tolist(), size)
    if unit < 1:
        pixels = pixels.resize([max(1, round(side)) for side in size], Image.Resampling.LANCZOS)
    return Picture(name, _jpeg(pixels), *size, boxes, caption)


def place_boxes(corners: np.ndarray, names: Sequence[str], scores: Sequence[float], canvas: tuple) -> list[Box]:
    """Give each box, best first, a place for its label that no other label has."""
    boxes, taken = [], []
    for box, name, score in zip(corners.tolist(), names, scores, strict=True):
        label = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
        place = free_place(box, _label_size(label), (int(canvas[0]), int(canvas[1])), taken)
        if place is not None:
            taken.append(place)
        x1, y1, x2, y2 = box
        boxes.append(Box(x1, y1, x2 - x1, y2 - y1, label, score, _baseline(place)))
    return boxes


def _label_size(label: str) -> tuple[int, int]:
    return round(0.68 * LETTER * len(label)) + 6, LETTER + 2  # bold letters in any of the page's fonts


def _baseline(place: Place | None) -> tuple[float, float] | None:
    return None if place is None else (place[0] + 3, place[1] + 0.87 * LETTER)


def _heat_picture(name: str, image: Tensor, heat: np.ndarray, top: float) -> Picture:
    """Return the map in colour, from 0 to `top`, over a pale grey copy of the image."""
    blend = overlay(image, heat, top)
    scale = LONGEST / max(blend.size)
    size = (max(1, round(blend.width * scale)), max(1, round(blend.height * scale)))
    return _whole(name, blend.resize(size, Image.Resampling.BICUBIC))


def _whole(name: str, image: Image.Image) -> Picture:
    return Picture(name, _jpeg(image), *image.size, [])


def _jpeg(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88 if max(image.size) > 128 else 92, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
