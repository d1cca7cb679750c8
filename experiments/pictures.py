"""The pictures of a report: what each arm picked, with what its model saw, and heatmaps of MI-AOD."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from miaod_plugin.data import read_image
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.drawing import overlay
from miaod_plugin.experiments.comparison import selected_ids
from miaod_plugin.experiments.layout import Cell, Run
from miaod_plugin.experiments.trainings import has_two_heads, load_estimator
from miaod_plugin.heatmaps import miaod_maps

MOST, LEAST = 4, 2  # images shown from the top and the bottom of a query's ranking
HEATMAPS = 4
LONGEST = 256  # pixels of a picture's longer side
MIN_SCORE, MAX_BOXES = 0.3, 12  # of the predictions that are drawn


@dataclass(frozen=True)
class Box:
    """A predicted box in pixels of its picture."""

    x: float
    y: float
    width: float
    height: float
    label: str
    score: float


@dataclass(frozen=True)
class Picture:
    """A JPEG as a data URI, its size in pixels, and the boxes drawn over it."""

    id: str
    uri: str
    width: int
    height: int
    boxes: list[Box]
    caption: str = ""


@dataclass(frozen=True)
class Selection:
    """Pictures of the most and the least informative images of one query."""

    arm: str
    most: list[Picture]
    least: list[Picture]


def selections(run: Run, arms: list[str], train: DetectionData) -> list[tuple[int, list[Selection]]]:
    """Return for each cycle that ended in a query what each arm picked, of the first seed that has it."""
    seed = run.config.seeds[0]
    rows = {name: row for row, name in enumerate(train.ids.tolist())}
    by_cycle: dict[int, list[Selection]] = {}
    for cell in run.arm_cells():
        if cell.seed != seed or cell.arm not in arms or not (run.folder(cell) / "selected.csv").exists():
            continue
        picked = selected_ids(run, cell)
        least = picked[max(MOST, len(picked) - LEAST) :]
        shown = picked[:MOST] + least
        estimator = load_estimator(run.config, cell.training, run.folder(cell) / "model.safetensors")
        predictions = estimator.predict(train.X[[rows[one["id"]] for one in shown]])
        pictures = [
            _picture(one["id"], train, rows, prediction, f"{one['utility']:.3g}")
            for one, prediction in zip(shown, predictions, strict=True)
        ]
        by_cycle.setdefault(cell.cycle, []).append(Selection(cell.arm, pictures[:MOST], pictures[MOST:]))
    return sorted(by_cycle.items())


@dataclass(frozen=True)
class HeatmapRow:
    """An image and its maps by name."""

    image: Picture
    maps: dict[str, Picture]


def heatmaps(run: Run, arms: list[str], train: DetectionData) -> tuple[Cell, list[HeatmapRow]] | None:
    """Return MI-AOD's maps of the images first in its last query, by the model that picked them.

    The arm is the first one trained with two classifiers that selects by their discrepancy, or else just trained so.
    """
    cell = _heatmap_cell(run, arms)
    if cell is None:
        return None
    rows = {name: row for row, name in enumerate(train.ids.tolist())}
    ids = [one["id"] for one in selected_ids(run, cell)[:HEATMAPS]]
    estimator = load_estimator(run.config, cell.training, run.folder(cell) / "model.safetensors")
    reducers = {
        "maps": lambda outputs: miaod_maps(outputs, estimator.options_),
        "detections": lambda outputs: outputs.detections,
    }
    passed = estimator.map_pool(train.X[[rows[name] for name in ids]], reducers)
    table = []
    for name, maps, prediction in zip(ids, passed["maps"], passed["detections"], strict=True):
        image = _picture(name, train, rows, prediction, name)
        pixels = read_image(train.X[rows[name]])
        heats = {kind: _heat_picture(name, pixels, heat) for kind, heat in maps.items()}
        table.append(HeatmapRow(image, heats))
    return cell, table


def _heatmap_cell(run: Run, arms: list[str]) -> Cell | None:
    strategies = {arm.name: arm.strategy for arm in run.config.arms}
    cells = [
        cell
        for cell in run.arm_cells()
        if cell.arm in arms
        and (run.folder(cell) / "selected.csv").exists()
        and has_two_heads(cell.training)
        and cell.seed == run.config.seeds[0]
    ]
    best = sorted(cells, key=lambda cell: (strategies[cell.arm] == "miaod", cell.training == "miaod", cell.cycle))
    return best[-1] if best else None


def _picture(name: str, train: DetectionData, rows: dict, prediction: dict, caption: str) -> Picture:
    pixels = Image.fromarray(read_image(train.X[rows[name]]).permute(1, 2, 0).numpy())
    scale = min(1.0, LONGEST / max(pixels.size))
    if scale < 1:
        pixels = pixels.resize((round(pixels.width * scale), round(pixels.height * scale)), Image.Resampling.LANCZOS)
    boxes = []
    for (x1, y1, x2, y2), label, score in zip(
        prediction["boxes"] * scale, prediction["labels"], prediction["scores"], strict=True
    ):
        if score >= MIN_SCORE and len(boxes) < MAX_BOXES:
            boxes.append(Box(float(x1), float(y1), float(x2 - x1), float(y2 - y1), train.classes[label], float(score)))
    return Picture(name, _jpeg(pixels), *pixels.size, boxes, caption)


def _heat_picture(name: str, image: Tensor, heat: np.ndarray) -> Picture:
    """Return the map in colour, from 0 to its own maximum, over a pale grey copy of the image."""
    blend = overlay(image, heat, heat.max())
    scale = LONGEST / max(blend.size)
    size = (max(1, round(blend.width * scale)), max(1, round(blend.height * scale)))
    return Picture(name, _jpeg(blend.resize(size, Image.Resampling.BICUBIC)), *size, [], f"max {heat.max():.2g}")


def _jpeg(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88 if max(image.size) > 128 else 92, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
