"""Feeds cases to a worker, and outlives it."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cases import Outcome

WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """One process that runs cases, started anew when it dies or hangs.

    Parameters
    ----------
    folder : path
        In which each process gets a folder of its own.
    seconds : float
        After which a case hangs. The rule's ten seconds are of the processor, which this one may have to share.
    """

    def __init__(self, folder: Path, seconds: float = 60.0):
        self.folder, self.seconds = folder, seconds
        self.process, self.prepared, self.started = None, set(), 0

    def run(self, family: str, seed: int) -> Outcome:
        """Run one case."""
        if family not in self.prepared:
            reply = self._ask(family, 300)
            if not isinstance(reply, dict):
                raise RuntimeError(f"{family} cannot be prepared: {reply}")
            self.prepared.add(family)
        reply = self._ask(f"{family} {seed}", self.seconds)
        return Outcome(**reply) if isinstance(reply, dict) else Outcome("failed", "", reply)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process, self.prepared = None, set()

    def _ask(self, line: str, seconds: float) -> dict | str:
        """Return the reply, or what happened to the process."""
        process = self.process or self._start()
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        reply = process.stdout.readline() if ready else b""
        if reply:
            return json.loads(reply)
        ended = f"hangs after {seconds} s" if not ready else f"the process ended with {process.wait()}"
        self.close()
        said = self._log().read_text(errors="replace").rpartition("\ncase ")[2]
        return f"{ended}; {said[:2000]}"

    def _start(self) -> subprocess.Popen:
        self.started += 1
        folder = self.folder / f"worker-{self.started}"
        folder.mkdir(parents=True)
        more = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder)}
        with open(self._log(), "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", WORKER, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | more,
            )
        return self.process

    def _log(self) -> Path:
        return self.folder / f"worker-{self.started}.log"


def run_cases(worker: Worker, family: str, seeds: Iterable[int]) -> tuple[Counter, list[str]]:
    """Return how many cases were accepted, refused and failed, and a text for each that failed."""
    counts, failures = Counter(), []
    for seed in seeds:
        outcome = worker.run(family, seed)
        counts[outcome.ended] += 1
        if outcome.ended == "failed":
            failures.append(f"{family} {seed} ({outcome.what}): {outcome.message}")
    return counts, failures


def main() -> None:
    """Run cases of some families: ``python tests/campaign/harness.py FAMILY... CASES``."""
    *families, cases = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Path(folder))
        for family in families:
            start = time.perf_counter()
            counts, failures = run_cases(worker, family, range(int(cases)))
            print(*failures, sep="\n")
            print(family, dict(counts), f"{time.perf_counter() - start:.0f} s", flush=True)
        worker.close()


if __name__ == "__main__":
    main()
