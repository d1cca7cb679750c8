"""What MI-AOD's steps take beside a supervised step, and how many times its operations they are.

Both are the network's share of a step: forward, losses and backward.
"""

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from miaod_plugin import MIAOD, Supervised, Training
from miaod_plugin.registry import DETECTORS, find
from miaod_plugin.training.base import Stage

CLASSES = 20
PHOTOGRAPHS = {"weights": None, "min_size": 320, "max_size": 640}
CASES = {  # options, size of the images, images in a step
    "retinanet_tiny": ({}, (64, 64), 12),
    "retinanet_mobilenet_v2_fpn": (PHOTOGRAPHS, (375, 500), 4),
    "retinanet_resnet50_fpn": (PHOTOGRAPHS, (375, 500), 2),
}


def steps_of(name: str, options: dict, shape: tuple[int, int], n_images: int) -> dict[str, Callable[[], None]]:
    """Return a supervised step and each kind of MI-AOD's, ready to be taken again and again."""
    images = [torch.rand(3, *shape) for _ in range(n_images)]
    box = torch.tensor([[0.1, 0.1, 0.6, 0.6]]) * torch.tensor(shape[::-1] * 2)
    targets = [{"boxes": box, "labels": torch.tensor([1])}] * n_images

    def step_of(training: Training, kind: str, labeled: bool) -> Callable[[], None]:
        network = training.build(find(DETECTORS, name)(CLASSES, **options)).to(memory_format=torch.channels_last)
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        stage = Stage(kind, 1, alternates=kind != "label")

        def step() -> None:
            training.begin(network, stage, trainable)
            sum(training.losses(network, images, targets if labeled else None, stage).values()).backward()
            network.zero_grad()

        return step

    steps = {"supervised": step_of(Supervised(), "label", True), "label-set": step_of(MIAOD(), "label", True)}
    for kind, words in (("min", "minimising"), ("max", "maximising")):
        steps[f"{words}, labelled"] = step_of(MIAOD(), kind, True)
        steps[f"{words}, unlabelled"] = step_of(MIAOD(), kind, False)
    return steps


def measured(steps: dict[str, Callable[[], None]], repeats: int = 6) -> dict[str, tuple[float, int]]:
    """Return the median seconds of processor time and the floating-point operations of each step; they take turns."""
    operations, seconds = {}, {name: [] for name in steps}
    for name, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()
        operations[name] = counter.get_total_flops()
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    return {name: (statistics.median(seconds[name]), operations[name]) for name in steps}


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    columns = ("detector", "step", "seconds", "times as long", "times the operations")
    table = Table(*columns, title=f"torch {torch.__version__}")
    for name, case in CASES.items():
        found = measured(steps_of(name, *case))
        alone, needs = found["supervised"]
        for step, (seconds, operations) in found.items():
            table.add_row(name, step, f"{seconds:.3f}", f"{seconds / alone:.2f}", f"{operations / needs:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
