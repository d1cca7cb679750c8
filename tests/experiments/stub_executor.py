"""An executor of a package of one's own, whose cells leave the files of a cycle behind and learn nothing."""

import time
from concurrent.futures import Future
from typing import Annotated

import numpy as np

from miaod_plugin.experiments.cycle.cycle import Experiment, annotate
from miaod_plugin.experiments.executors.base import CellExecutor
from miaod_plugin.experiments.store.datasets import load_data
from miaod_plugin.experiments.store.layout import Cell, Run
from miaod_plugin.experiments.store.records import LABELLED, METRICS, MODEL, SELECTED, SELECTED_COLUMNS, TRAINED
from miaod_plugin.experiments.store.stored import as_json, seal, write_lines, write_rows
from miaod_plugin.parameters import Whole


class Stub(CellExecutor):
    """Does cells at once, in this process.

    Of the last one, `started` tells the cells in their order, `overhead` the seconds in which none was being done.
    """

    started: list[Cell]
    overhead: float

    def __init__(self, run: Run, *, room: Annotated[int, Whole(1, 1000)] = 1):
        super().__init__(run)
        self._room, Stub.started, Stub.overhead = room, [], 0.0
        self._experiment = Experiment(run.config, run, *load_data(run.config))

    @property
    def at_once(self) -> int:
        return self._room

    def submit(self, cell: Cell) -> Future:
        begin = time.perf_counter()
        self._leave_files(cell)
        self.started.append(cell)
        future: Future = Future()
        future.set_result(None)
        Stub.overhead -= time.perf_counter() - begin
        return future

    def _leave_files(self, cell: Cell) -> None:
        experiment, folder = self._experiment, self.run.folder(cell)
        labelled = annotate(experiment, cell)
        identity = {"training": cell.training, "seed": cell.seed, "cycle": cell.cycle}
        trained = identity | {"steps": experiment.steps(cell), "losses": {}, "train_seconds": 0.0}
        for name in ("unlabelled.txt", "losses.jsonl", MODEL):
            write_lines(folder / name, [])
        seal(folder / TRAINED[-1], as_json(trained), [LABELLED, *TRAINED[:-1]])
        asks = self.run.asks(cell)
        if asks:
            more = self.run.config.budgets[cell.cycle + 1] - len(labelled)
            rest = np.setdiff1d(experiment.train.ids, experiment.train.ids[labelled])[:more]
            rows = [{"rank": rank, "id": name, "utility": "0.0"} for rank, name in enumerate(rest, start=1)]
            write_rows(folder / SELECTED, rows, SELECTED_COLUMNS)
        budget = None if cell.training == "full-supervision" else self.run.config.budgets[cell.cycle]
        counts = {"budget": budget, "spent": len(labelled), "images": len(labelled)}
        metrics = trained | counts | {"arm": cell.arm, "boxes": 0, "ap50": 0.5, "per_class": {}, "query_seconds": None}
        seal(folder / METRICS, as_json(metrics), [LABELLED, *TRAINED, *[SELECTED] * asks])

    def messages(self) -> list:
        return []

    def __enter__(self) -> "Stub":
        Stub.overhead -= time.perf_counter()
        return self

    def __exit__(self, kind, error, trace) -> None:
        Stub.overhead += time.perf_counter()
