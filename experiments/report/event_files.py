"""TensorBoard event files: average precision against labels, overlaid by arm, and how it came about."""

from statistics import fmean

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchvision.io import encode_jpeg
from torchvision.transforms.v2.functional import resize
from torchvision.utils import draw_bounding_boxes, make_grid

from miaod_plugin.data import read_image

from ..cycle.cycle import Experiment
from ..store.layout import Cell
from ..store.loss_record import read_losses
from ..store.own_files import EVENTS_END, event_files
from ..store.records import read_record
from ..store.stored import inside
from . import statistics
from .results import score_name

SHOWN, SIDE = 8, 160  # selected images in a grid, and the pixels of its squares


class EventFiles:
    """One TensorBoard run for each arm and seed, ``tensorboard/ARM/seedK``, and one for their mean, ``ARM/mean``.

    Event files can only be appended to, so they are written anew from the finished cycles at every start: a cycle that
    was stopped and repeated does not show twice.
    """

    def __init__(self, experiment: Experiment):
        self.folder = experiment.run.root / "tensorboard"
        self._experiment, self._run = experiment, experiment.run
        self._writers: dict[tuple[str, str], SummaryWriter] = {}
        self._cycles: dict[tuple[str, int], list[dict]] = {}  # metrics of the cycles already written
        for path in event_files(experiment.run.root):
            path.unlink()

    def add(self, cell: Cell) -> None:
        """Write one finished cycle; the cycles of an arm and seed come in their order."""
        writer, before = self._writer(cell.arm, f"seed{cell.seed}"), self._cycles.setdefault((cell.arm, cell.seed), [])
        record = read_record(self._run, cell)
        metrics = record.metrics
        for name, tag in (("ap50", "AP50"), ("ap", "AP")):
            if statistics.known(metrics.get(name)):
                writer.add_scalar(f"by labelled images/{tag}", metrics[name], metrics["images"])
                writer.add_scalar(f"by number of boxes/{tag}", metrics[name], metrics["boxes"])
        for name, value in metrics["per_class"].items():
            if value is not None:
                writer.add_scalar(f"per class by labelled images/{name}", value, metrics["images"])
        steps = sum(cycle["steps"] for cycle in before)
        for row in read_losses(self._run.folder(cell) / "losses.jsonl"):
            for name, value in row["losses"].items():
                writer.add_scalar(f"loss by optimiser step/{name}", value, steps + row["step"])
        before.append(metrics)
        if not self._run.asks(cell):
            self._add_summary(cell, writer)
        elif record.selected:
            shown = self._picture(record.selected[:SHOWN])
            writer.file_writer.add_summary(as_jpeg("selected images/most informative", shown), metrics["images"])
        self._add_means(cell)
        writer.flush()

    def _writer(self, arm: str, name: str) -> SummaryWriter:
        if (arm, name) not in self._writers:
            folder = inside(self._run.root, self.folder / arm / name)
            writer = self._writers[arm, name] = SummaryWriter(str(folder), filename_suffix=EVENTS_END)
            writer.add_custom_scalars(self._dashboard())
        return self._writers[arm, name]

    def _add_means(self, cell: Cell) -> None:
        """Write the mean over seeds and its interval, once all seeds have the cycle."""
        chains = [self._cycles.get((cell.arm, seed), []) for seed in self._run.config.seeds]
        if min(map(len, chains)) <= cell.cycle:
            return
        cycles = [chain[cell.cycle] for chain in chains]
        writer, images = self._writer(cell.arm, "mean"), round(fmean(cycle["images"] for cycle in cycles))
        for name, tag in (("ap50", "AP50"), ("ap", "AP")):
            summary = statistics.describe([cycle.get(name) for cycle in cycles])
            if summary["mean"] is not None:
                writer.add_scalar(f"arms by labelled images/{tag}", summary["mean"], images)
                for end in ("low", "high"):
                    value = summary["mean"] if summary[end] is None else summary[end]
                    writer.add_scalar(f"interval of the mean/{tag} {end}", value, images)
        writer.flush()

    def _dashboard(self) -> dict:
        """Return the layout of the custom scalars: the comparison, before everything else."""
        charts = {}
        for tag in ["AP", "AP50"] if score_name(self._run) == "ap" else ["AP50"]:
            mean = f"arms by labelled images/{tag}"
            ends = [f"interval of the mean/{tag} {end}" for end in ("low", "high")]
            charts |= {
                f"{tag} by labelled images, mean of seeds": ["Multiline", [f"{mean}$"]],
                f"{tag} by labelled images, 95 % interval": ["Margin", [mean, *ends]],
                f"{tag} by labelled images, each seed": ["Multiline", [f"^by labelled images/{tag}$"]],
                f"{tag} by number of boxes, each seed": ["Multiline", [f"by number of boxes/{tag}$"]],
            }
        return {"Comparison of arms": charts}

    def _add_summary(self, cell: Cell, writer: SummaryWriter) -> None:
        """Write what the arm is and the area under its curve, for the hparams table."""
        cycles, score = self._cycles[cell.arm, cell.seed], score_name(self._run)
        result = {"result/last": cycles[-1][score]} if statistics.known(cycles[-1][score]) else {}
        amounts, scores = zip(*((cycle["images"], cycle[score]) for cycle in cycles), strict=True)
        if amounts[0] < amounts[-1] and all(map(statistics.known, scores)):
            result["result/AULC"] = statistics.area_under_curve(amounts, scores)
        strategy = next(arm.strategy for arm in self._run.config.arms if arm.name == cell.arm)
        row = {"arm": cell.arm, "training": cell.training, "strategy": strategy, "seed": cell.seed}
        for summary in hparams(row, result):
            writer.file_writer.add_summary(summary)
        for tag, value in result.items():
            writer.add_scalar(tag, value, cycles[-1]["images"])

    def _picture(self, selected: list[dict]) -> Tensor:
        """Return selected images with their annotated boxes, as one picture."""
        train = self._experiment.train
        squares = []
        for picked in selected:
            row = self._experiment.row_of[picked["id"]]
            image, boxes = read_image(train.X[row]), torch.as_tensor(train.y[row]["boxes"])
            scale = SIDE / max(image.shape[1:])
            height, width = (max(1, round(side * scale)) for side in image.shape[1:])
            image = resize(image, [height, width], antialias=True)
            if len(boxes):
                image = draw_bounding_boxes(image, boxes * scale, colors="yellow", width=2)
            squares.append(F.pad(image, (0, SIDE - width, 0, SIDE - height)))
        return make_grid(squares, nrow=4)

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()


def as_jpeg(tag: str, picture: Tensor) -> Summary:
    """Return a picture ``(3, H, W)`` for TensorBoard; `SummaryWriter.add_image` makes PNG of it, which takes long."""
    channels, height, width = picture.shape
    encoded = encode_jpeg(picture, quality=90).numpy().tobytes()
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=encoded)
    return Summary(value=[Summary.Value(tag=tag, image=image)])
