"""A step of supervised training against torchvision's reference step: same network, images, batch and optimiser.

Ours is `training.loop.train` from image files on. The peer is what ``references/detection/engine.py`` of torchvision
does in a step, ``train_one_epoch``: the model in training mode, the sum of its losses, their values for the log, a
check that they are finite, and SGD with torch's defaults; its data set reads files by `torchvision.io` and mirrors half
of the images. The steps of both alternate, so that whatever else the machine does slows both down.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, read_image
from torchvision.models import mobilenet_v2, mobilenet_v3_large, resnet50
from torchvision.models.detection import FasterRCNN, RetinaNet, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from miaod_plugin import ObjectDetector
from miaod_plugin.data import make_targets

from .measure import Comparison

CLASSES = 20
SHAPE = 375, 500  # height and width of most images of PASCAL VOC
LEARNING_RATE = 1e-5  # random weights would diverge with more


@dataclass(frozen=True)
class Case:
    """A network as ours and as torchvision's, and the images in a batch."""

    detector: str
    options: dict
    peer: Callable[[], nn.Module]
    batch_size: int


def torchvision_mobilenet_v2(size: int) -> RetinaNet:
    """Return torchvision's RetinaNet on its MobileNetV2, of the parts that `retinanet_mobilenet_v2_fpn` has."""
    body = mobilenet_v2(norm_layer=FrozenBatchNorm2d).features
    body[:4].requires_grad_(False)  # to stride 4
    return torchvision_retinanet(body, {"6": "0", "13": "1", "17": "2"}, [32, 96, 320], 128, 2, size)


def torchvision_resnet50(size: int) -> RetinaNet:
    """Return torchvision's RetinaNet on ResNet-50, frozen as with its ImageNet weights."""
    body = resnet50(norm_layer=FrozenBatchNorm2d)
    body.conv1.requires_grad_(False)
    body.layer1.requires_grad_(False)
    return torchvision_retinanet(body, {"layer2": "0", "layer3": "1", "layer4": "2"}, [512, 1024, 2048], 256, 4, size)


def torchvision_retinanet(
    body: nn.Module, layers: dict[str, str], channels: list[int], width: int, head_convs: int, size: int
) -> RetinaNet:
    """Return torchvision's RetinaNet with a pyramid of `width` channels on some layers of a backbone."""
    backbone = BackboneWithFPN(body, layers, channels, width, extra_blocks=LastLevelP6P7(width, width))
    head = RetinaNetHead(width, 9, CLASSES)
    for part in (head.classification_head, head.regression_head):
        part.conv = part.conv[:head_convs]
    return RetinaNet(backbone, CLASSES, size, 2 * size, head=head)


def torchvision_faster_rcnn(size: int) -> FasterRCNN:
    """Return torchvision's Faster R-CNN on its MobileNetV3, frozen as ours."""
    body = mobilenet_v3_large(norm_layer=FrozenBatchNorm2d).features
    body[:4].requires_grad_(False)  # to stride 4
    backbone = BackboneWithFPN(body, {"13": "0", "16": "1"}, [160, 960], 256)  # and a third level by pooling
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return FasterRCNN(backbone, CLASSES + 1, size, 2 * size, rpn_anchor_generator=anchors)


def torchvision_ssdlite(size: int) -> nn.Module:
    """Return torchvision's SSDLite, whose size is 320."""
    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES + 1)


def cases(size: int = 320) -> dict[str, Case]:
    """Return the four networks on images of `size` pixels."""
    photographs = {"weights": None, "min_size": size, "max_size": 2 * size}
    return {
        "RetinaNet-MobileNetV2": Case(
            "retinanet_mobilenet_v2_fpn", photographs, partial(torchvision_mobilenet_v2, size), 4
        ),
        "RetinaNet-ResNet-50": Case("retinanet_resnet50_fpn", photographs, partial(torchvision_resnet50, size), 2),
        "SSDLite": Case(
            "ssdlite320_mobilenet_v3_large",
            {"weights": None, "reduced_tail": True, "size": 320},
            partial(torchvision_ssdlite, 320),
            8,
        ),
        "Faster R-CNN-MobileNetV3": Case(
            "fasterrcnn_mobilenet_v3_large_320_fpn", photographs, partial(torchvision_faster_rcnn, size), 2
        ),
    }


class PeerImages(Dataset):
    """Images and targets as torchvision's reference reads them: item i is ``(image (3, H, W) in 0..1, target)``."""

    def __init__(self, X: np.ndarray, y: np.ndarray):
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        image = read_image(self.X[index], ImageReadMode.RGB)
        boxes = torch.from_numpy(self.y[index]["boxes"])
        if torch.rand(1) < 0.5:
            image, width = image.flip(-1), image.shape[-1]
            boxes = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([width, 0, width, 0])
        return image.float() / 255, {"boxes": boxes, "labels": torch.from_numpy(self.y[index]["labels"])}


def peer_steps(
    model: nn.Module, X: np.ndarray, y: np.ndarray, batch_size: int, device: str = "cpu", num_workers: int = 0
) -> Iterator[None]:
    """Take a step of torchvision's reference training each time the next item is asked for."""
    loader = DataLoader(PeerImages(X, y), batch_size, shuffle=True, collate_fn=list, num_workers=num_workers)
    model.to(device)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], LEARNING_RATE, 0.9, weight_decay=5e-4
    )
    model.train()
    while True:
        for items in loader:
            targets = [{name: value.to(device) for name, value in target.items()} for _, target in items]
            losses = model([image.to(device) for image, _ in items], targets)
            loss = sum(losses.values())
            {name: value.item() for name, value in losses.items()}  # for the log
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the reference diverges: {losses}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield


def write_photographs(folder: Path, count: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Write JPEG files as large as photographs, of smooth noise, and return their paths and random targets."""
    rng, (height, width), paths, targets = np.random.default_rng(0), shape, [], []
    for number in range(count):
        paths.append(str(folder / f"{number}.jpg"))
        colours = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8))
        colours.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
        corners = rng.uniform(0, 0.6, (rng.integers(1, 6), 2))
        boxes = np.hstack([corners, corners + rng.uniform(0.1, 0.4, corners.shape)]) * [width, height, width, height]
        targets.append({"boxes": boxes.astype(np.float32), "labels": rng.integers(0, CLASSES, len(boxes))})
    return np.array(paths), make_targets(targets)


def step_times(
    case: Case, steps: int, shape: tuple[int, int] = SHAPE, precision: str = "float32"
) -> tuple[float, float]:
    """Return the median seconds of processor time of a step of ours, and of torchvision's: one of each in turn."""
    ours, theirs, mark = [], [], time.process_time()

    def on_step(event: dict) -> None:
        nonlocal mark
        begin = time.process_time()
        ours.append(begin - mark)
        next(peer)
        mark = time.process_time()
        theirs.append(mark - begin)

    with TemporaryDirectory() as folder:
        X, y = write_photographs(Path(folder), 2 * case.batch_size, shape)
        torch.manual_seed(0)
        peer = peer_steps(case.peer(), X, y, case.batch_size)
        next(peer)
        estimator = ObjectDetector(
            case.detector,
            [str(label) for label in range(CLASSES)],
            detector_options=case.options,
            max_steps=steps + 1,
            batch_size=case.batch_size,
            learning_rate=LEARNING_RATE,
            precision=precision,
            device="cpu",
            random_state=0,
            on_step=on_step,
        )
        estimator.fit(X, y)
    return statistics.median(ours[1:]), statistics.median(theirs[1:])  # the first begins with the network


def grouped_steps(steps: int = 8) -> Comparison:
    """Compare the mean processor time of a step of photographs, a quarter of them upright: grouped and mixed."""
    with TemporaryDirectory() as folder:
        parts = []
        for name, count, shape in (("wide", 24, SHAPE), ("upright", 8, SHAPE[::-1])):
            Path(folder, name).mkdir()
            parts.append(write_photographs(Path(folder, name), count, shape))
        X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        times = {}
        for grouped in (True, False):
            ends = []
            ObjectDetector(
                "retinanet_mobilenet_v2_fpn",
                [str(label) for label in range(CLASSES)],
                detector_options={"weights": None, "min_size": 320, "max_size": 640},
                max_steps=steps + 1,
                batch_size=4,
                group_by_aspect=grouped,
                learning_rate=LEARNING_RATE,
                device="cpu",
                random_state=0,
                on_step=lambda event, ends=ends: ends.append(time.process_time()),
            ).fit(X, y)
            times[grouped] = (ends[-1] - ends[0]) / steps
    return Comparison("training step, 4 photographs, a quarter upright: grouped / mixed", times[True], times[False])


def training_steps() -> Iterator[Comparison]:
    """Compare the steps of the four networks, in both precisions."""
    for name, case in cases().items():
        for precision, ours in (("float32", "ours"), ("bf16", "ours in bf16")):
            what = f"training step, {name}, {case.batch_size} images: {ours} / torchvision's reference"
            yield Comparison(what, *step_times(case, 6, precision=precision))
