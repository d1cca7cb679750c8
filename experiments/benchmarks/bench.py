"""Benchmarks: each is a ratio against a peer, measured in the same run. ``make bench`` prints them."""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist
from torchvision.models.detection.retinanet import RetinaNetClassificationHead

from miaod_plugin import MIAODDetector, mil
from miaod_plugin.baselines.k_center import k_center_greedy
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.retinanet import retinanet_tiny
from miaod_plugin.strategies import MIAODSampling


def best_of(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the shortest of several run times in seconds, after one run to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def losses() -> tuple[float, float]:
    """Return the seconds of a RetinaNet loss with gradient on 16 images: the batch at once, and torchvision's loop."""
    data = make_digit_scenes(16, random_state=0)
    images = [torch.from_numpy(x).permute(2, 0, 1).float() / 255 for x in data.X]
    targets = [{name: torch.from_numpy(value) for name, value in target.items()} for target in data.y]
    network = DetectionNetwork(retinanet_tiny(5))
    outputs = network(images, targets)
    detector, features = network.detector, outputs.features
    logits, boxes = torch.cat(outputs.heads[0], dim=1).detach(), outputs.boxes.detach()
    sizes = [level.shape[1] for level in outputs.heads[0]]
    logits.requires_grad_()
    boxes.requires_grad_()

    def batched():
        sum(detector.loss([list(logits.split(sizes, dim=1))], boxes, features).values()).backward()

    retinanet = detector.retinanet
    retinanet.head.classification_head = RetinaNetClassificationHead(4, 6, 5)  # holds torchvision's loss

    def looped():
        predicted = {"cls_logits": logits, "bbox_regression": boxes}
        sum(retinanet.compute_loss(features.targets, predicted, [features.anchors] * 16).values()).backward()

    return best_of(batched, 20), best_of(looped, 20)


def scoring() -> tuple[float, float]:
    """Return the seconds of rating 256 images: batched with top-k, and one by one with a full sort (the original)."""
    data = make_digit_scenes(256, random_state=0)
    detector = MIAODDetector("retinanet_tiny", classes=data.classes, max_steps=10, random_state=0, score_batch_size=32)
    detector.fit(data.X[:8], data.y[:8], unlabeled=data.X[8:16])

    device = next(detector.network_.parameters()).device

    def one_by_one():
        with torch.inference_mode():
            for image in data.X:
                image = torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255
                heads = detector.network_([image]).heads
                pairs = zip(*heads, strict=True)
                uncertainty = torch.cat([mil.instance_uncertainty(f1, f2) for f1, f2 in pairs], dim=1)
                uncertainty.sort(dim=1, descending=True).values[:, :10_000].mean()

    strategy = MIAODSampling()
    return best_of(lambda: strategy.utilities(detector, data.X), 3), best_of(one_by_one, 3)


def coreset() -> tuple[float, float]:
    """Return the seconds of choosing 200 of 6,000 images: one distance update a pick, and a pairwise matrix."""
    rng = np.random.default_rng(0)
    pool, labeled = rng.normal(size=(6000, 128)).astype(np.float32), rng.normal(size=(100, 128)).astype(np.float32)

    def matrix():
        distances, nearest = cdist(pool, pool), cdist(pool, labeled).min(axis=1)
        for _ in range(200):
            nearest = np.minimum(nearest, distances[nearest.argmax()])

    return best_of(lambda: k_center_greedy(pool, labeled, 200), 2), best_of(matrix, 2)


BENCHMARKS = {
    "RetinaNet loss, 16 images: batched / torchvision's loop": losses,
    "MI-AOD scoring, 256 images: batched top-k / one by one, sorted": scoring,
    "core-set, 200 of 6,000: running distances / pairwise matrix": coreset,
}


def main() -> None:
    """Run every benchmark and print the seconds of ours and the peer's, and how many times as fast ours is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.set_flush_denormal(True)
    table = Table("benchmark: ours / peer", title=f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for column in ("ours (s)", "peer (s)", "times as fast"):
        table.add_column(column, justify="right")
    for name, benchmark in BENCHMARKS.items():
        ours, peer = benchmark()
        table.add_row(name, f"{ours:.4f}", f"{peer:.4f}", f"{peer / ours:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
