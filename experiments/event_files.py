"""TensorBoard event files: average precision against labelled images, overlaid by arm, and losses against steps."""

import shutil

from torch.utils.tensorboard import SummaryWriter

from miaod_plugin.experiments.cycle import read_losses
from miaod_plugin.experiments.layout import Cell, Run, read_json


class EventFiles:
    """One TensorBoard run for each arm and seed, ``tensorboard/ARM/seedK``.

    Event files can only be appended to, so they are written anew from the finished cycles at every start: a cycle that
    was stopped and repeated does not show twice.
    """

    def __init__(self, run: Run):
        self.folder = run.root / "tensorboard"
        self._run = run
        self._writers: dict[tuple[str, int], SummaryWriter] = {}
        self._steps: dict[tuple[str, int], int] = {}  # optimiser steps of the cycles already written
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, cell: Cell) -> None:
        """Write one finished cycle; the cycles of an arm and seed come in their order."""
        chain = cell.arm, cell.seed
        if chain not in self._writers:
            self._writers[chain] = SummaryWriter(str(self.folder / cell.arm / f"seed{cell.seed}"))
        writer, before = self._writers[chain], self._steps.get(chain, 0)
        metrics = read_json(self._run.folder(cell) / "metrics.json")

        for name, tag in (("ap50", "AP50"), ("ap", "AP")):
            if name in metrics:
                writer.add_scalar(f"by labelled images/{tag}", metrics[name], metrics["images"])
        writer.add_scalar("by labelled images/boxes", metrics["boxes"], metrics["images"])
        for name, value in metrics["per_class"].items():
            if value is not None:
                writer.add_scalar(f"per class by labelled images/{name}", value, metrics["images"])
        for row in read_losses(self._run.folder(cell) / "losses.jsonl"):
            for name, value in row["losses"].items():
                writer.add_scalar(f"loss by optimiser step/{name}", value, before + row["step"])
        writer.flush()
        self._steps[chain] = before + metrics["steps"]

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()
