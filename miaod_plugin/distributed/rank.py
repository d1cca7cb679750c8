"""What a process does that `ranks` started: one job after the other, together with the others."""

import contextlib
import logging
import os
import pickle
import queue
import signal
import threading
import traceback
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from .group import Group, join


def main() -> None:
    """Do the jobs that come through the pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    connection, inbox = Connection(int(os.environ["MIAOD_PIPE"])), queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    if rank > 0:
        logging.disable()  # the first tells what there is to tell
    group = join(rank, size, store=dist.FileStore(os.environ["MIAOD_STORE"], size))
    while True:
        _do(inbox.get(), connection, inbox, group)


def _listen(connection: Connection, inbox: queue.SimpleQueue) -> None:
    """Take what comes; end when the parent has, whatever this process is doing."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(connection.recv_bytes())
    os._exit(1)


def _do(content: bytes, connection: Connection, inbox: queue.SimpleQueue, group: Group) -> None:
    def send(value: object) -> None:
        if group.rank == 0:
            connection.send_bytes(pickle.dumps(("sent", value)))
            inbox.get()  # once it is taken

    try:
        folder, job = pickle.loads(content)
        os.chdir(folder)  # from where paths are looked up
        job(send)
        answer = pickle.dumps(("done", None))
    except Exception as error:
        error.add_note(f"in process {group.rank + 1} of {group.size}: {traceback.format_exc()}")
        answer = _pickled(error)
    connection.send_bytes(answer)


def _pickled(error: Exception) -> bytes:
    """Return an error for the parent, in words where it cannot be sent itself."""
    try:
        content = pickle.dumps(("failed", error))
        pickle.loads(content)
    except Exception:
        return pickle.dumps(("failed", RuntimeError(f"{type(error).__name__}: {error}")))
    return content
