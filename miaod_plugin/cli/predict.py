"""The command ``miaod predict``."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import ConfigError, DataError
from .parts import (
    Checkpoint,
    Device,
    OnError,
    Orientation,
    Threshold,
    load_detector,
    name_broken,
    progress_bar,
    refuse_broken,
)


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.", show_default=False)],
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and predictions.json.")] = Path("predictions"),
    threshold: Threshold = 0.3,
    heatmap: Annotated[bool, typer.Option("--heatmap", help="Also draw discrepancy, MIL weight and product.")] = False,
    format: Annotated[
        Literal["json", "coco"], typer.Option(help="Of predictions.json; coco's paths start in the images' folder.")
    ] = "json",
    orientation: Orientation = "upright",
    on_error: OnError = "stop",
    device: Device = "auto",
) -> None:
    """Draw what a detector finds in images, write it as JSON, and print how uncertain it is about each."""
    from ..files import atomic_path, write_text
    from ..mil.training import MIAOD
    from ..ranking.found import as_coco, as_json

    estimator = load_detector(checkpoint, device)
    if heatmap and not isinstance(estimator.training_, MIAOD):
        raise ConfigError(f"--heatmap: {checkpoint} holds a detector with one classifier; train with --training miaod")
    pictures = _picture_names(images)
    found, tops, broken = _look_at(estimator, list(pictures), heatmap)
    for image in found:
        with atomic_path(out / pictures[image.path]) as temporary:
            _picture(estimator, image, threshold, tops).save(temporary, format="PNG")
        uncertainty = "" if image.utility is None else f", uncertainty {image.utility:.4g}"
        print(f"{out / pictures[image.path]}: {len(image.above(threshold).boxes)} boxes{uncertainty}")
    if found:
        as_text = as_json if format == "json" else as_coco
        written = [image.oriented(Path(image.path), orientation) for image in found]
        if format == "coco":  # whose readers want paths inside one folder
            written = _inside(images[0] if len(images) == 1 and images[0].is_dir() else None, written)
        write_text(out / "predictions.json", as_text(written, estimator.classes_.tolist(), threshold))
        _hint(found, threshold)
    if broken and on_error == "stop":
        refuse_broken(broken, "the others are done")
    name_broken(broken, left_out=True)


def _picture_names(given: list[Path]) -> dict[str, Path]:
    """Return the images among files and folders, each with the name of its picture, which no other one has.

    An image of a folder keeps its place in it. Where names are alike, all keep their place in the folder they share.
    """
    from ..data import load_folder

    names = {}  # by where the image lies, so that one that is given twice counts once
    for path in given:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; give images or folders of images")
        for name in load_folder(path).ids if path.is_dir() else [""]:
            names.setdefault(os.path.abspath(path / name), (str(path / name), Path(name or path.name)))
    places = [name for _, name in names.values()]
    if len(set(places)) < len(places):
        shared = os.path.commonpath([os.path.dirname(place) for place in names])
        places = [Path(os.path.relpath(place, shared)) for place in names]
    pictures = [place.with_suffix(".png") for place in places]
    if len(set(pictures)) < len(pictures):  # a.jpg beside a.png
        pictures = [place.with_name(f"{place.name}.png") for place in places]
    return dict(zip([path for path, _ in names.values()], pictures, strict=True))


def _inside(folder: Path | None, found: list) -> list:
    """Return what was found with paths that start in a folder, or in the one that all images share."""
    folder = folder or os.path.commonpath([os.path.dirname(os.path.abspath(image.path)) for image in found])
    return [replace(image, path=Path(os.path.relpath(image.path, folder)).as_posix()) for image in found]


def _look_at(estimator, paths: list[str], heatmap: bool) -> tuple[list, dict[str, float], dict]:
    """Return what is found in the images in one pass, the largest value of each heatmap, and those that are broken."""
    import numpy as np

    from ..mil.heatmaps import miaod_maps
    from ..mil.training import MIAOD
    from ..ranking.found import FOUND, to_found
    from ..registry import STRATEGIES, find

    reducers, X = dict(FOUND), np.array(paths)
    if isinstance(estimator.training_, MIAOD):
        reducers["uncertainty"] = find(STRATEGIES, "miaod")().reducer(estimator.training_.options_)
    if heatmap:
        reducers["tops"] = lambda outputs: [
            {name: heat.max() for name, heat in maps.items()}
            for maps in miaod_maps(outputs, estimator.training_.options_)
        ]
    found, tops, broken = {}, {}, {}

    def leave_out(k: int, error: DataError) -> None:
        broken[paths[k]] = error

    with progress_bar("images") as show:
        show(0, len(X))
        for indices, rows in estimator.map_batches(X, reducers, leave_out):
            found |= zip(indices.tolist(), to_found(X[indices], rows, rows.get("uncertainty")), strict=True)
            for image in rows.get("tops", []):
                tops = {name: max(float(top), tops.get(name, 0.0)) for name, top in image.items()}
            show(len(found) + len(broken), len(X))
    return [found[k] for k in sorted(found)], tops, broken


def _picture(estimator, image, threshold: float, tops: dict[str, float]):
    """Return the image with its boxes, beside its heatmaps on the scale of all images where `tops` has them."""
    import numpy as np

    from ..data import read_image
    from ..drawing import draw_detections, overlay, side_by_side
    from ..mil.heatmaps import miaod_maps

    pixels, shown = read_image(image.path), image.above(threshold)
    boxes = {"boxes": shown.boxes, "labels": shown.labels, "scores": shown.scores}
    picture = draw_detections(pixels, boxes, estimator.classes_)
    if not tops:
        return picture
    reducers = {"maps": lambda outputs: miaod_maps(outputs, estimator.training_.options_)}
    maps = estimator.map_pool(np.array([image.path]), reducers)["maps"][0]
    heats = {name: overlay(pixels, heat, tops[name]) for name, heat in maps.items()}
    return side_by_side({"detections": picture, **heats}, f"{image.path}, uncertainty {image.utility:.4g}", tops)


def _hint(found: list, threshold: float) -> None:
    best = max((float(image.scores[0]) for image in found if len(image.scores)), default=None)
    if best is None:
        print("the detector finds nothing at all in these images", file=sys.stderr)
    elif best < threshold:
        print(f"no box has a score of {threshold:g} or more, the best {best:.2g}; lower --threshold", file=sys.stderr)
