"""Tasks on a Ray cluster, which the extra ``miaod-plugin[ray]`` installs.

A task is a cell. Ray starts it where its CPUs, GPUs and memory are free, and again when its worker or its node dies;
then it goes on from the cell's checkpoint, on the storage that all nodes share.
"""

import logging
import os
import pickle
import time
from concurrent.futures import Future
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from platform import node
from typing import Annotated

from miaod_plugin.cluster.connection import check_address, connected, require_ray
from miaod_plugin.errors import ConfigError, DataError, MiaodError
from miaod_plugin.parameters import Number, Whole

from ..cycle.cycle import Experiment
from ..store.environment import environment
from ..store.layout import Cell, Run
from .base import CellExecutor, Failure, Progress
from .cells import prepare, run_cell

logger = logging.getLogger("miaod_plugin")


class RayTasks(CellExecutor):
    """Each cell is a task on a Ray cluster, whose nodes have this package, and the data and ``--out`` in one place.

    Parameters
    ----------
    address : str, optional
        HOST:PORT of the cluster, of which this machine is a node; ``auto`` for the one that runs here, ``local`` for a
        new one on this machine. When left out what RAY_ADDRESS says, or the one that runs here, or else a new one.
    cpus : float
        Cores of a cell, and its threads unless the experiment says `threads`.
    gpus : float, optional
        GPUs of a cell; 0.5 lets two cells share one. When left out `devices` where the cluster has any, unless `device`
        is cpu.
    memory : int, optional
        Bytes of main memory to keep for a cell.
    retries : int
        How often a cell is started again whose worker or node has died.
    """

    def __init__(
        self,
        run: Run,
        *,
        address: str | None = None,
        cpus: Annotated[float, Number(0, 4096, above=True)] = 1.0,
        gpus: Annotated[float, Number(0, 1024)] | None = None,
        memory: Annotated[int, Whole(1, 2**60)] | None = None,
        retries: Annotated[int, Whole(0, 1000)] = 3,
    ):
        super().__init__(run)
        ray = require_ray("executor ray")
        check_address(address, "executor.options.address")
        for name, amount in (("cpus", cpus), ("gpus", gpus or 0)):
            if amount > 1 and amount != int(amount):
                raise ConfigError(f"executor.options.{name}: {amount} is no whole number; only less than 1 may be none")
        self._ray, self._address, self._retries, self._connection = ray, address, retries, ExitStack()
        self._needs = {"CPU": cpus, "GPU": gpus, "memory": memory}
        self._refs: dict[Cell, object] = {}
        self._environments: list[dict] = []
        self._told_environments = 0
        self._asked: dict[str, float] = {}
        self._room_in_all = 0

    def __enter__(self) -> "RayTasks":
        self._connection.enter_context(connected(self._ray, self._address))
        self._start()
        return self

    def _start(self) -> None:
        ray, needs, config = self._ray, self._needs, self.run.config
        if needs["GPU"] is None:
            any_gpu = config.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
            needs["GPU"] = float(config.devices * any_gpu)
        device = "cuda" if needs["GPU"] and config.device != "cpu" else "cpu"
        threads = config.threads or max(1, int(needs["CPU"]))
        run = Run(config.model_copy(update={"device": device, "threads": threads}), self.run.root.parent)
        self._work = pickle.dumps((run, os.getcwd()))
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._inbox = ray.remote(num_cpus=0, scheduling_strategy=here)(_Inbox).remote()
        options = {"num_cpus": needs["CPU"], "num_gpus": needs["GPU"], "memory": needs["memory"]}
        self._task = ray.remote(max_retries=self._retries, **options)(self.do)
        if not any(self._room(node["Resources"]) for node in ray.nodes() if node["Alive"]):
            logger.warning("no node of the cluster has %s; cells wait for one that does", self._needed())

    def _needed(self) -> str:
        return ", ".join(f"{amount:g} {name}" for name, amount in self._needs.items() if amount)

    def _room(self, resources: dict[str, float]) -> int:
        """Return how many cells these resources are enough for."""
        return min(int(resources.get(name, 0) / amount) for name, amount in self._needs.items() if amount)

    @property
    def at_once(self) -> int:
        """As many cells as the cluster has room for; more where `jobs` says so, for a cluster that grows when asked."""
        if self._is_time("room"):
            self._room_in_all = self._room(self._ray.cluster_resources())
        return max(self.run.config.jobs, self._room_in_all)

    def submit(self, cell: Cell) -> Future:
        ref = self._refs[cell] = self._task.remote(self._work, cell, self._inbox)
        future: Future = Future()
        ref.future().add_done_callback(partial(self._settle, future, cell))
        return future

    @staticmethod
    def do(work: bytes, cell: Cell, inbox) -> tuple[Failure | None, dict | None]:
        """Do a cell on a node; return what stopped it, and the node's environment."""
        try:
            experiment, where = _prepared(work)
        except (MiaodError, OSError) as error:
            return Failure(cell, f"node {node()}: {error}", by_user=True), None
        return run_cell(experiment, cell, inbox.add.remote), where

    def _settle(self, future: Future, cell: Cell, task: Future) -> None:
        """Pass on how a task ended."""
        self._refs.pop(cell, None)
        if (error := task.exception()) is None:
            failure, where = task.result()
            if where is not None and where not in self._environments:
                self._environments.append(where)
            future.set_result(failure)
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            future.set_result(Failure(cell, " ".join(str(error.cause).split()), by_user=False))
        else:
            why = f"a worker died, {self._retries} retries included: killed, its node lost, or out of memory"
            future.set_result(Failure(cell, f"{why} (executor.options.memory keeps room for a cell)", by_user=False))

    def _is_time(self, question: str) -> bool:
        """Whether to ask the cluster again, which is a message there and back: bars show no more than ten a second."""
        if is_time := time.monotonic() >= self._asked.get(question, 0.0) + 0.1:
            self._asked[question] = time.monotonic()
        return is_time

    def messages(self) -> list[Progress]:
        if not self._is_time("messages"):
            return []
        try:
            return self._ray.get(self._inbox.take.remote())
        except self._ray.exceptions.RayError:  # killed: bars stand still, cells go on
            return []

    def environments(self) -> list[dict]:
        new = self._environments[self._told_environments :]
        self._told_environments += len(new)
        return new

    def __exit__(self, kind, error, trace) -> None:
        for ref in [*self._refs.values()]:  # there are some after an error or Ctrl-C alone
            self._ray.cancel(ref, force=True)  # every file that it is writing is whole or absent
        self._ray.kill(self._inbox)
        self._connection.close()


class _Inbox:
    """An actor beside the run's own process, which holds messages until that takes them."""

    def __init__(self):
        self._messages: list[Progress] = []

    def add(self, message: Progress) -> None:
        self._messages.append(message)

    def take(self) -> list[Progress]:
        taken, self._messages = self._messages, []
        return taken


@lru_cache(maxsize=1)
def _prepared(work: bytes) -> tuple[Experiment, dict]:
    """Load the data of an experiment, once in a worker."""
    run, folder = pickle.loads(work)
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: not there; a run is started in a folder on storage that all nodes share")
    os.chdir(folder)  # from where the paths of an experiment are looked up
    if not run.begun():
        raise DataError(f"{run.root}: not there; --out must be on storage that all nodes share")
    return prepare(run, run.config.threads, run.config.device), environment(run)
