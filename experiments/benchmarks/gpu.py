"""What a GPU makes of RetinaNet-ResNet-50: images a second in training and scoring, the share of waiting for images.

Ours computes in bfloat16; the peer is torchvision's reference loop in float32, with as many processes that read images.
On a CPU with small images it shows that the benchmark itself works.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from miaod_plugin import MIAODDetector, ObjectDetector
from miaod_plugin.pool import PoolImages
from miaod_plugin.strategies import MIAODSampling

from ..config.schema import load_config
from ..config.trainings import optimiser_steps
from .measure import Comparison, show
from .training import CLASSES, LEARNING_RATE, cases, peer_steps, write_photographs

READING = "enumerate(DataLoader)"  # what the profiler calls waiting for the next batch
PROTOCOL = Path(__file__).parents[1] / "voc_retinanet.yaml"


@dataclass(frozen=True)
class Setting:
    """On what, and how much, is measured."""

    device: str
    size: int  # of the shorter side of resized images; the longer may have 5/3 of it
    batch_size: int
    steps: int
    num_workers: int
    images: int

    def estimator(self, cls: Callable, precision: str = "bf16", **parameters) -> ObjectDetector:
        """Return RetinaNet-ResNet-50 of random weights."""
        how = {"batch_size": self.batch_size, "score_batch_size": self.batch_size, "num_workers": self.num_workers}
        return cls(
            "retinanet_resnet50_fpn",
            [str(label) for label in range(CLASSES)],
            detector_options={"weights": None, "min_size": self.size, "max_size": self.size * 5 // 3},
            precision=precision,
            learning_rate=LEARNING_RATE,
            device=self.device,
            random_state=0,
            **how | parameters,
        )

    def wait(self) -> None:
        """Wait for what the device still computes."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def timed(self, function: Callable[[], object]) -> float:
        """Return the seconds of a call."""
        self.wait()
        start = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - start


def training(setting: Setting, X: np.ndarray, y: np.ndarray, trace: Path | None) -> tuple[Comparison, float]:
    """Compare a step, and return the share of ours in which the loop waits for images, by a profile of its own."""

    def fit(steps: int) -> Callable[[], object]:
        return lambda: setting.estimator(ObjectDetector, max_steps=steps).fit(X, y)

    # the difference of two trainings: without what comes before the first step
    few = max(1, setting.steps // 4)
    ours = (setting.timed(fit(few + setting.steps)) - setting.timed(fit(few))) / setting.steps
    case = cases(setting.size)["RetinaNet-ResNet-50"]
    torch.manual_seed(0)
    peer = peer_steps(case.peer(), X, y, setting.batch_size, setting.device, setting.num_workers)
    next(peer)
    theirs = setting.timed(lambda: [next(peer) for _ in range(setting.steps)])
    what = f"training step, {setting.batch_size} images, {setting.size} px: ours in bf16 / torchvision's reference"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * setting.device.startswith("cuda")
    with profile(activities=activities) as profiled:
        seconds = setting.timed(fit(few))
    if trace is not None:
        profiled.export_chrome_trace(str(trace))
    waited = sum(event.cpu_time_total for event in profiled.key_averages() if event.key.startswith(READING)) / 1e6
    return Comparison(what, ours, theirs / setting.steps), waited / seconds


def scoring(setting: Setting, X: np.ndarray, y: np.ndarray) -> Comparison:
    """Compare rating a pool by MI-AOD with torchvision's detections of it in float32."""
    detector = setting.estimator(MIAODDetector, max_steps=2).fit(X[:2], y[:2], unlabeled=X[2:4])
    strategy = MIAODSampling()
    strategy.utilities(detector, X[: setting.batch_size])
    ours = setting.timed(lambda: strategy.utilities(detector, X))
    model = cases(setting.size)["RetinaNet-ResNet-50"].peer().to(setting.device).eval()

    def detect() -> None:
        loader = torch.utils.data.DataLoader(
            PoolImages(X), setting.batch_size, collate_fn=list, num_workers=setting.num_workers
        )
        with torch.inference_mode():
            for images in loader:
                model([image.to(setting.device).float() / 255 for image in images])

    theirs = setting.timed(detect)
    return Comparison(
        f"scoring {len(X)} images, {setting.size} px: MI-AOD in bf16 / torchvision's detections", ours, theirs
    )


def hours_of_a_seed(seconds_per_step: float, batch_size: int) -> float:
    """Return the hours that one seed of MI-AOD trains in the paper's protocol on VOC, from the seconds of a step.

    At another batch size than the protocol's there are as many images, and so fewer steps.
    """
    config = load_config(PROTOCOL)
    steps = sum(optimiser_steps(config, budget) for budget in config.budgets)
    return steps * config.training["batch_size"] / batch_size * seconds_per_step / 3600


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--num-workers", type=int, default=8)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--trace", type=Path, help="where to write the profile, for chrome://tracing")
    options = vars(parser.parse_args())
    trace = options.pop("trace")
    setting = Setting(**options)
    with TemporaryDirectory() as folder:
        X, y = write_photographs(Path(folder), setting.images, (375, 500))
        step, waiting = training(setting, X, y, trace)
        scored = scoring(setting, X, y)
    show([step, scored])
    print(
        f"training: {setting.batch_size / step.ours:.1f} images/s, {100 * waiting:.1f} % of the time waiting for images"
    )
    print(f"scoring: {setting.images / scored.ours:.1f} images/s")
    print(f"VOC, one seed of MI-AOD: {hours_of_a_seed(step.ours, setting.batch_size):.1f} h of training")


if __name__ == "__main__":
    main()
