"""Benchmarks: each is a ratio against a peer, measured in the same run. ``make bench`` prints them."""

import argparse
from collections.abc import Iterator

import torch
from torchvision.models.detection.retinanet import RetinaNetClassificationHead

from miaod_plugin import MIAODDetector, mil
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.detectors.network import DetectionNetwork
from miaod_plugin.detectors.retinanet import retinanet_tiny
from miaod_plugin.strategies import MIAODSampling

from .coreset import coreset
from .measure import Comparison, show, side_by_side
from .reading import reading
from .scoring import scoring_passes
from .training import grouped_steps, training_steps


def losses() -> Comparison:
    """Compare a RetinaNet loss with gradient on 16 images: the batch at once, and torchvision's loop."""
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

    return side_by_side("RetinaNet loss, 16 images: batched / torchvision's loop", batched, looped, 20)


def scoring() -> Comparison:
    """Compare rating 256 images: batched with top-k, and one by one with a full sort (the original)."""
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
    name = "MI-AOD scoring, 256 images: batched top-k / one by one, sorted"
    return side_by_side(name, lambda: strategy.utilities(detector, data.X), one_by_one)


def everything() -> Iterator[Comparison]:
    """Yield all comparisons."""
    yield losses()
    yield scoring()
    yield from scoring_passes()
    yield from coreset()
    yield from training_steps()
    yield grouped_steps()
    yield from reading()


def main() -> None:
    """Run every benchmark and print the seconds of ours and the peer's, and how many times as fast ours is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.set_flush_denormal(True)
    show(everything())


if __name__ == "__main__":
    main()
