"""Thousands of damaged inputs: each is accepted with a sane result, or refused in one line.

To look at a case that failed, run it alone: ``python tests/campaign/worker.py FAMILY SEED``.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from families import FAMILIES
from harness import Worker, run_cases

SHORT, LONG = 14, 400  # cases of a family


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("campaign"))
    yield worker
    worker.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_input_is_accepted_sanely_or_refused_in_one_line(worker, family):
    counts, failures = run_cases(worker, family, range(SHORT))
    assert not failures, "\n\n".join(failures)
    assert counts["accepted"] + counts["refused"] == SHORT


@pytest.mark.slow
def test_thousands_of_damaged_inputs_are_accepted_sanely_or_refused_in_one_line(tmp_path_factory, capsys):
    def campaign(family: str) -> tuple[str, Counter, list[str]]:
        worker = Worker(tmp_path_factory.mktemp(family))
        try:
            return family, *run_cases(worker, family, range(LONG))
        finally:
            worker.close()

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(campaign, FAMILIES))
    total = sum((counts for _, counts, _ in results), Counter())
    with capsys.disabled():
        print()
        for family, counts, _ in [*results, ("in all", total, [])]:
            ended = ", ".join(f"{counts[end]:5} {end}" for end in ("accepted", "refused", "failed"))
            print(f"{family:20} {counts.total():5} cases: {ended}")
    failures = [failure for _, _, failed in results for failure in failed]
    assert not failures, "\n\n".join(failures)
    assert total.total() >= 5000
