"""What an executor is: it runs cells as `concurrent.futures` runs calls, and passes on how far each is."""

from concurrent.futures import Future
from dataclasses import dataclass

from ..store.environment import environment
from ..store.layout import Cell, Run


@dataclass(frozen=True)
class Progress:
    """A message from a worker: where its cell is."""

    cell: Cell
    stage: str
    step: int = 0
    total: int = 0


@dataclass(frozen=True)
class Failure:
    """What stopped a cell; `by_user` where the message is about something that the user supplied."""

    cell: Cell
    message: str
    by_user: bool


class CellExecutor:
    """Runs cells of a run; made with the run and the options of the experiment's `executor`, entered before it is used.

    Register a subclass under the entry point `miaod_plugin.executors`; its annotated keywords are its options. Its
    workers do a cell by `cells.run_cell`, on storage that they share with this process.
    """

    def __init__(self, run: Run):
        self.run = run
        self._told = False

    @property
    def at_once(self) -> int:
        """How many cells are worth submitting before one of them has ended."""
        return self.run.config.jobs

    def submit(self, cell: Cell) -> Future:
        """Start a cell, those before it being finished; the future's result is None or a `Failure`.

        It raises a `concurrent.futures.BrokenExecutor` if the worker died and the executor takes no more cells.
        """
        raise NotImplementedError

    def messages(self) -> list[Progress]:
        """Return the progress reported since the last call."""
        raise NotImplementedError

    def environments(self) -> list[dict]:
        """Return the environments of workers that were not returned before; by default, this process's is theirs."""
        told, self._told = self._told, True
        return [] if told else [environment(self.run)]

    def __enter__(self) -> "CellExecutor":
        return self

    def __exit__(self, kind, error, trace) -> None:
        """End the workers; where an error or Ctrl-C leads here, at once, since nothing they still do is wanted."""
        raise NotImplementedError
