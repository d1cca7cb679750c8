"""What a case of the campaign is, and the rule that every case is held to."""

import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from miaod_plugin.errors import MiaodError

SECONDS = 10.0  # of the processor
MEGABYTES = 700  # that a case may need beyond what the worker has taken before
LONGEST_MESSAGE = 600

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {  # audit event: positions of its paths, and of the descriptor of the folder that each is relative to
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
}
MAKING = {"open", "os.mkdir", "os.link", "os.symlink"}
STARTING = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}


@dataclass(frozen=True)
class Case:
    """One damaged input.

    - ``what``: the damage, for whoever has to look at it;
    - ``run``: uses the input, and asserts that what comes out is sane;
    - ``names``: of which a refusal must name at least one;
    - ``refusals``: exceptions that may refuse it.
    """

    what: str
    run: Callable[[], object]
    names: tuple[str, ...] = ()
    refusals: tuple[type[Exception], ...] = (MiaodError,)


@dataclass(frozen=True)
class Outcome:
    """How a case ended: ``accepted``, ``refused`` with one good line, or ``failed``."""

    ended: str
    what: str
    message: str = ""


def judge(make: Callable[[Path], Case], folder: Path, watched: "Watched") -> Outcome:
    """Run one case in a new `folder`, remove the folder, and hold what happened to the rule."""
    folder.mkdir(parents=True)
    case = make(folder)
    print(f"case {folder.name}: {case.what}", file=sys.stderr, flush=True)  # for the log of a process that dies
    memory, seconds = most_megabytes(), time.process_time()
    try:
        with watched.only(folder):
            case.run()
        ended, message = "accepted", ""
    except case.refusals as error:
        message = str(error)
        ended = "refused" if (wrong := _wrong_with(message, case)) is None else "failed"
        message = message if wrong is None else f"{wrong}: {message!r}"
    except BaseException as error:
        ended, message = "failed", "".join(traceback.format_exception(error))
    memory = most_megabytes() - memory
    seconds = time.process_time() - seconds
    shutil.rmtree(folder, ignore_errors=True)
    if touched := watched.touched():
        return Outcome("failed", case.what, f"touched {touched}; {message}")
    if memory > MEGABYTES or seconds > SECONDS:
        return Outcome("failed", case.what, f"took {memory} MB and {seconds:.1f} s; {message}")
    return Outcome(ended, case.what, message)


def most_megabytes() -> int:
    """Return the most memory that this process has held; `resource` would begin with what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024


def _wrong_with(message: str, case: Case) -> str | None:
    if not message.isprintable():
        return "not one line of what prints"
    if not 0 < len(message) <= LONGEST_MESSAGE:
        return f"{len(message)} characters"
    if case.names and not any(name in message for name in case.names):
        return f"names none of {case.names}"
    return None


class Watched:
    """Knows when a case writes, deletes or starts something outside its folder.

    Python's audit events tell of what Python opens, and a snapshot of the neighbourhood of what libraries do.
    """

    def __init__(self, neighbourhood: Path):
        """Make files in `neighbourhood` that nothing may change; cases lie beside them."""
        self.neighbourhood, self.folder, self.events = neighbourhood, None, []
        (neighbourhood / "outside" / "folder").mkdir(parents=True)
        for name in ("outside.txt", "outside/file.txt", "outside/folder/0.jpg"):
            (neighbourhood / name).write_text("nobody may change this")
        self.before = self._snapshot()
        sys.addaudithook(self._hear)

    @contextmanager
    def only(self, folder: Path):
        self.folder, self.events = os.path.realpath(folder), []
        before = os.getcwd()
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
            self.folder = None

    def touched(self) -> str:
        """Return what was touched since `only` began, or nothing."""
        # An event tells of an attempt: what it would have made and is not there came to nothing.
        events = [f"{event} {path}" for event, path in self.events if event not in MAKING or os.path.lexists(path)]
        self.events = []
        after = self._snapshot()
        changed = [str(path) for path in self.before.keys() | after.keys() if self.before.get(path) != after.get(path)]
        self.before = after
        return ", ".join(events[:3] + changed)

    def _snapshot(self) -> dict[Path, bytes | None]:
        return {
            path: path.read_bytes() if path.is_file() else None
            for top in self.neighbourhood.glob("outside*")
            for path in (top, *top.rglob("*"))
        }

    def _hear(self, event: str, args: tuple) -> None:
        if self.folder is None:
            return
        if event in STARTING:
            self.events.append((event, f"{args[:2]!r}"[:200]))
        elif event == "open" and isinstance(args[0], str | bytes) and (args[2] or 0) & WRITING:
            self._see(event, args[0], None)
        elif event in PATHS:
            for path, at in PATHS[event]:
                self._see(event, args[path], None if at is None or args[at] in (None, -1) else args[at])

    def _see(self, event: str, path, descriptor: int | None) -> None:
        if isinstance(path, int) or os.fspath(path) in ("/dev/null", b"/dev/null"):
            return
        base = os.getcwd() if descriptor is None else os.readlink(f"/proc/self/fd/{descriptor}")
        path = os.path.join(base, os.fsdecode(path))
        try:
            inside = os.path.realpath(os.path.dirname(path) if event != "open" else path).startswith(self.folder)
        except ValueError:  # a NUL: no such path is opened
            return
        if not inside:
            self.events.append((event, path))
