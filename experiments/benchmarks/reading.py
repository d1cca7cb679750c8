"""Images from the cache of pixels against images from their files: read alone, and in a step of training."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor

from miaod_plugin import ObjectDetector
from miaod_plugin.data import load_voc, make_digit_scenes, read_image, write_voc
from miaod_plugin.data.pixel_cache import PixelCache

from .measure import Comparison, side_by_side
from .training import CLASSES, SHAPE, write_photographs

BOUND = 1 << 30  # bytes, more than all of them take up
TRAINED = {
    "photographs, RetinaNet-MobileNetV2 at 160 px": (
        "retinanet_mobilenet_v2_fpn",
        {"weights": None, "min_size": 160, "max_size": 320},
        4,
    ),
    "digit scenes of 128 px, tiny RetinaNet": ("retinanet_tiny", {}, 12),
}


def reading(count: int = 40) -> Iterator[Comparison]:
    """Compare reading as many images, photographs and digit scenes, and the steps of trainings on them."""
    with TemporaryDirectory() as folder:
        photographs = write_photographs(Path(folder), count, SHAPE)
        scenes = make_digit_scenes(count, image_size=128, random_state=0)
        write_voc(scenes, Path(folder, "scenes"))
        data = (photographs, (load_voc(Path(folder, "scenes"), scenes.split).X, scenes.y))
        for (name, (detector, options, batch_size)), (X, y) in zip(TRAINED.items(), data, strict=True):
            file = Path(folder, f"{detector}.cache")
            yield images(f"reading {count} {name.partition(',')[0]}: cache / files", X, file)
            parameters = {"detector": detector, "detector_options": options, "batch_size": batch_size}
            yield steps(f"training step, {name}, {batch_size} images: cache / files", X, y, parameters, file)


def images(name: str, X: np.ndarray, file: Path) -> Comparison:
    """Compare reading images, and hold their pixels against each other."""
    cache = PixelCache(file, BOUND)

    def pixels(read: Callable[[str], Tensor]) -> np.ndarray:
        return np.concatenate([read(x).permute(1, 2, 0).numpy().ravel() for x in X])

    return side_by_side(name, partial(pixels, cache.read), partial(pixels, read_image), 5, same=True)


def steps(name: str, X: np.ndarray, y: np.ndarray, parameters: dict, file: Path, turns: int = 4) -> Comparison:
    """Compare the processor time of a step, the median of each training and the shortest of several in turns."""
    times: dict[Path | None, list[float]] = {file: [], None: []}
    for _ in range(turns):
        for cache, medians in times.items():
            medians.append(median_step(X, y, parameters, cache))
    return Comparison(name, *map(min, times.values()))


def median_step(X: np.ndarray, y: np.ndarray, parameters: dict, cache: Path | None, count: int = 8) -> float:
    """Return the median seconds of processor time of a step of a training, but for the first."""
    ends = []
    ObjectDetector(
        **parameters,
        classes=[str(label) for label in range(CLASSES)],
        max_steps=count,
        device="cpu",
        random_state=0,
        cache=cache,
        on_step=lambda event: ends.append(time.process_time()),
    ).fit(X, y)
    return statistics.median(np.diff(ends).tolist())
