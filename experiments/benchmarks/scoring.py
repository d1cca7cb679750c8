"""Benchmark of a cycle's scoring: every strategy asked and the test set scored, against the bare forward passes.

One pass over the pool feeds all strategies, and one over the test set its score. The bare passes compute what those
read, features, class logits and boxes, of the same images in the same batches, and keep nothing.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from miaod_plugin import MIAODDetector
from miaod_plugin.baselines import EntropySampling
from miaod_plugin.baselines.k_center import k_center_greedy
from miaod_plugin.data import DetectionData, make_digit_scenes
from miaod_plugin.strategies import MIAODSampling

from .measure import Comparison, side_by_side

LABELED, BATCH_SIZE = 8, 8


def scoring_passes(pool: int = 32, test: int = 16, image_size: int = 320, picks: int = 8) -> Iterator[Comparison]:
    """Yield a comparison for RetinaNet-MobileNetV2 on digit scenes of `image_size` pixels."""
    data = make_digit_scenes(LABELED + pool + test, image_size=image_size, random_state=0)
    detector = MIAODDetector(
        "retinanet_mobilenet_v2_fpn",
        data.classes,
        detector_options={"weights": None, "min_size": image_size, "max_size": image_size},
        max_steps=1,
        score_batch_size=BATCH_SIZE,
        random_state=0,
    ).fit(data.X[:LABELED], data.y[:LABELED])
    name = f"four strategies and the score, {pool} + {test} images / bare forward passes"
    yield side_by_side(name, *both(detector, data, pool, picks), repeats=4)


def both(
    detector, data: DetectionData, pool: int, picks: int
) -> tuple[Callable[[], dict[str, np.ndarray]], Callable[[], None]]:
    """Return the scoring, which tells what each strategy picks, and the bare passes; the first images are labelled."""
    labeled, X, test = data.X[:LABELED], data.X[LABELED : LABELED + pool], slice(LABELED + pool, None)
    embeddings = {"embeddings": lambda outputs: outputs.embeddings}
    reducers = {
        "miaod": MIAODSampling().reducer(detector.training_.options_),
        "entropy": EntropySampling().reducer(),
        **embeddings,
    }
    known = detector.map_pool(labeled, embeddings)["embeddings"]

    def scoring() -> dict[str, np.ndarray]:
        rows = detector.map_pool(X, reducers)
        detector.score(data.X[test], data.y[test])
        best = {name: np.argsort(-rows[name], kind="stable")[:picks] for name in ("miaod", "entropy")}
        random = np.random.default_rng(0).permutation(pool)[:picks]
        return best | {"coreset": k_center_greedy(rows["embeddings"], known, picks)[0], "random": random}

    @torch.inference_mode()
    def bare() -> None:
        network = detector.network_.eval()
        device = next(network.parameters()).device
        for images in (X, data.X[test]):
            for start in range(0, len(images), BATCH_SIZE):
                batch = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device)
                outputs = network(list(batch.permute(0, 3, 1, 2).float() / 255))
                outputs.heads, outputs.boxes  # noqa: B018 (reading them computes them)

    return scoring, bare
