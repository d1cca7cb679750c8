"""The command as a process of its own, to be killed in the middle of its work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def miaod(*arguments, **options) -> subprocess.CompletedProcess:
    """Run the command to its end."""
    return subprocess.run([sys.executable, "-m", "miaod_plugin", *map(str, arguments)], check=False, **options)


def start(yaml: Path, runs: Path, *more: str) -> subprocess.Popen:
    """Start a run in a process group of its own, which heeds Ctrl-C also where the tests run in the background."""
    return start_command("run", yaml, "--out", runs, *more)


def start_command(*arguments) -> subprocess.Popen:
    """Start the command like this."""
    command = [sys.executable, "-m", "miaod_plugin", *map(str, arguments)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **streams, start_new_session=True, preexec_fn=_heed_ctrl_c)


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell lets what it starts in the background ignore it


def start_until(yaml: Path, runs: Path, pattern: str, *more: str) -> tuple[subprocess.Popen, set[int]]:
    """Start a run and wait until a file appears in it; return the process and its descendants."""
    process = start(yaml, runs, *more)
    deadline = time.monotonic() + 120
    while not list(runs.glob(pattern)):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.01)
    return process, descendants(process.pid)


def descendants(pid: int) -> set[int]:
    """Return the processes that `pid` has started, and those that they have."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    parents[int(entry)] = int(stat.read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def wait_for_end(pids: set[int]) -> None:
    """Wait until none of the processes is there any more."""
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.05)
