"""Processes of this machine that work together at what this one gives them, and end with it, however it ends.

They are kept for the next call, since each takes seconds to load torch. This process is none of them: it passes jobs on
and waits, so that it can tell in one line, and end the others, when one dies.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe, util
from multiprocessing.connection import Connection, wait
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory

import torch
from joblib import wrap_non_picklable_objects

from ..errors import ConfigError, MiaodError, TrainingError
from ..threads import WAIT_POLICY

LOOK_EVERY = 0.2  # seconds, for a process that died and left its end of the pipe to others
TO_DIE = 5.0  # seconds for a process to be found dead after another has missed it
# Modules are found as here, once the package has been found where it is installed.
_START = "import sys; from miaod_plugin.distributed.rank import main; sys.path += {path!r}; main()"

Job = Callable[[Callable[[object], None]], None]  # job(send): what the first process sends is passed on


def run(job: Job, devices: int, device: str | torch.device) -> Iterator[object]:
    """Let every one of `devices` processes do a job, and yield what the first of them sends.

    What they do is stopped when nobody waits for more.

    Raises
    ------
    ConfigError
        If there are not so many devices.
    TrainingError
        If a process died.
    """
    ranks = _lent(devices, _kind_of(devices, device))
    done = False
    try:
        yield from ranks.run(job)
        done = True
    finally:
        if done:
            _idle.append(ranks)
        else:
            ranks.end()


_idle: list["Ranks"] = []


def _lent(devices: int, kind: str) -> "Ranks":
    """Return processes that wait for work, or new ones; those that wait for work of another kind end."""
    while _idle:
        ranks = _idle.pop()
        if ranks.serves(devices, kind):
            return ranks
        ranks.end()
    return Ranks(devices, kind)


def _end_all() -> None:
    while _idle:
        _idle.pop().end()


util.Finalize(None, _end_all, exitpriority=10)  # as `atexit`, which the processes of multiprocessing do not heed


def _kind_of(devices: int, device: str | torch.device) -> str:
    """Return "cpu" or "cuda", on which so many processes can work."""
    kind, _, index = str(device).partition(":")
    if index:
        raise ConfigError(f"devices: {devices} processes, each with a GPU, work on no single one; leave out {device}")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and torch.cuda.device_count() < devices:
        raise ConfigError(f"devices: {devices}, but there are {torch.cuda.device_count()} GPUs; give at most that many")
    return kind


class Ranks:
    """Processes that wait for jobs, each of which all of them do together.

    Parameters
    ----------
    size : int
    kind : {"cpu", "cuda"}
    """

    def __init__(self, size: int, kind: str):
        self.size, self.kind, self._parent = size, kind, os.getpid()
        self._folder = TemporaryDirectory(prefix="miaod-", ignore_cleanup_errors=True)  # where they find each other
        self._processes, self._connections = [], []
        threads = max(1, torch.get_num_threads() // size)
        loopback = "lo" if Path("/sys/class/net/lo").exists() else "lo0"
        environment = os.environ | {
            **{"RANK": "0", "WORLD_SIZE": str(size), "LOCAL_RANK": "0", "OMP_NUM_THREADS": str(threads)},
            **{WAIT_POLICY: os.environ.get(WAIT_POLICY, "PASSIVE"), "MIAOD_STORE": f"{self._folder.name}/store"},
            **{"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback},  # nobody else can reach them
        }
        if kind == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        for rank in range(size):
            ours, theirs = Pipe()
            own = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank), "MIAOD_PIPE": str(theirs.fileno())}
            command = [sys.executable, "-P", "-c", _START.format(path=sys.path)]
            self._processes.append(subprocess.Popen(command, env=own, pass_fds=[theirs.fileno()]))
            self._connections.append(ours)
            theirs.close()

    def serves(self, size: int, kind: str) -> bool:
        """Whether these are so many processes of that kind, all alive, and this process's own."""
        alive = all(process.poll() is None for process in self._processes)
        return (size, kind, os.getpid()) == (self.size, self.kind, self._parent) and alive

    def run(self, job: Job) -> Iterator[object]:
        """Yield what the first process sends, which waits until it is taken, to the end of the job in all of them."""
        content = pickle.dumps(wrap_non_picklable_objects((os.getcwd(), job), keep_wrapper=False))
        for connection in self._connections:
            self._send(connection, content)
        working = set(self._connections)
        while working:
            ready = wait(working, LOOK_EVERY)
            if not ready:
                self._require_alive(0)
            for connection in ready:
                what, value = self._received(connection)
                if what == "done":
                    working.remove(connection)
                elif what == "sent":
                    yield value
                    self._send(connection, b"")
                else:
                    if not isinstance(value, MiaodError):  # perhaps it only missed another
                        self._require_alive(TO_DIE)
                    raise value

    def _send(self, connection: Connection, content: bytes) -> None:
        try:
            connection.send_bytes(content)
        except OSError:
            self._require_alive(TO_DIE)
            raise

    def _received(self, connection: Connection) -> tuple[str, object]:
        try:
            return pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            self._require_alive(TO_DIE)
            raise

    def _require_alive(self, patience: float) -> None:
        """Raise a TrainingError if a process is found dead within so many seconds."""
        deadline = time.monotonic() + patience
        while True:
            for rank, process in enumerate(self._processes):
                if (status := process.poll()) is not None:
                    how = f"was killed by {Signals(-status).name}" if status < 0 else f"ended with status {status}"
                    raise TrainingError(
                        f"devices: process {rank + 1} of {self.size} {how}, perhaps for want of memory; the same"
                        " call does it again, and goes on from a checkpoint if it has one"
                    )
            if time.monotonic() >= deadline:
                return
            time.sleep(0.02)

    def end(self) -> None:
        """End the processes; every file that they were writing is whole or absent."""
        for connection in self._connections:
            connection.close()
        if os.getpid() == self._parent:  # and not one that was forked from it
            for process in self._processes:
                process.kill()
            for process in self._processes:
                process.wait()
            self._folder.cleanup()
