"""The process in which cases run, so that one that crashes or hangs is one failed case.

It reads lines ``FAMILY SEED`` and answers each with a line of JSON; a line ``FAMILY`` alone prepares the family. With
both as arguments it runs that case alone, which is how to look at a case that failed::

    python tests/campaign/worker.py FAMILY SEED
"""

import importlib
import json
import logging
import os
import random
import resource
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from cases import Outcome, Watched, judge

TESTS = Path(__file__).resolve().parent.parent
ADDRESS_SPACE = 8 << 30  # bytes beyond those of the libraries: what wants more ends in a MemoryError


def main() -> None:
    sys.path += [str(TESTS / "miaod_plugin"), str(TESTS / "experiments")]  # helpers of other tests
    neighbourhood = Path(tempfile.mkdtemp(prefix="campaign.")) if len(sys.argv) > 2 else Path(sys.argv[1])
    watched = Watched(neighbourhood)
    logging.disable(logging.CRITICAL)
    families = {}

    def answer(family: str, seed: str | None) -> dict:
        if family not in families:
            families[family] = importlib.import_module(f"families.{family}").Family(neighbourhood / f"good-{family}")
            _limit()
        if seed is None:
            return {}
        rng = random.Random(f"{family} {seed}")
        return asdict(_judged(families[family], rng, neighbourhood / f"{family}-{seed}", watched))

    if len(sys.argv) > 2:
        print(*answer(sys.argv[1], sys.argv[2]).values(), sep="\n")
        return
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a case prints is no reply
    for line in sys.stdin:
        family, _, seed = line.strip().partition(" ")
        print(json.dumps(answer(family, seed or None)), file=replies, flush=True)


def _judged(family, rng: random.Random, folder: Path, watched: Watched) -> Outcome:
    return judge(lambda inside: family.case(rng, inside), folder, watched)


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main()
