"""How the cost of scoring, core-set, training and loading grows with the number of images.

A cost that is linear has slope 1 between logarithms; below, what is there in any case still counts.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.baselines.k_center import k_center_greedy
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.strategies import MIAODSampling

from . import loading
from .growth import Growth, draw, growth, show

SIDE = 32  # pixels of an image: a million of them fit into memory
TINY = {"detector": "retinanet_tiny", "detector_options": {"width": 8, "fpn_channels": 16}, "random_state": 0}


def scenes(n_images: int):
    """Return digit scenes of `SIDE` pixels, the same few again and again: what is on them costs nothing."""
    few = make_digit_scenes(100, image_size=SIDE, object_size=(8, 16), random_state=0)
    rows = np.arange(n_images) % len(few)
    return few.X[rows], few.y[rows], few.classes


def scoring(sizes: list[int]) -> Growth:
    """Time MI-AOD's utilities of a pool, by a network so small that the rest of the pass counts."""
    X, y, classes = scenes(100)
    detector = MIAODDetector(**TINY, classes=classes, max_steps=4, score_batch_size=256).fit(X, y, unlabeled=X)
    return growth("scoring a pool", sizes, lambda n: partial(MIAODSampling().utilities, detector, scenes(n)[0]))


def coreset(sizes: list[int], dimensions: int = 64, picks: int = 100) -> Growth:
    """Time the choice of as many core-set images from pools of random embeddings."""

    def prepared(n: int) -> Callable[[], object]:
        rng = np.random.default_rng(0)
        pool, labeled = (rng.standard_normal((rows, dimensions), dtype=np.float32) for rows in (n, 100))
        return partial(k_center_greedy, pool, labeled, picks)

    return growth(f"core-set, {picks} picks", sizes, prepared)


def training(sizes: list[int]) -> Growth:
    """Time a supervised training of one pass over the labelled images."""

    def prepared(n: int) -> Callable[[], object]:
        X, y, classes = scenes(n)
        return partial(ObjectDetector(**TINY, classes=classes, batch_size=8, max_steps=n // 8).fit, X, y)

    return growth("one pass of training", sizes, prepared)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=100_000, help="images of the largest pool")
    parser.add_argument("--out", type=Path, default=Path("runs/growth.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    sizes = [10**k for k in range(3, 1 + int(np.log10(options.most)))]
    fewer = [size // 10 for size in sizes]
    grown = [scoring(sizes), coreset(sizes), training(fewer)]
    with TemporaryDirectory() as folder:
        grown += [loading.voc(Path(folder), fewer), loading.coco(Path(folder), fewer)]
    show(grown)
    draw(grown, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
