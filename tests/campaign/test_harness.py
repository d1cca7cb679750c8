"""The campaign sees what it is there to see."""

import pytest
from harness import Worker

WAYS = {
    "crash": "Segmentation fault",
    "hang": "hangs after 1",
    "traceback": "KeyError",
    "insane_result": "AssertionError: not sane",
    "silence": "names none of",
    "write_outside": "touched open",
    "delete_outside": "outside.txt",
    "start_a_program": "touched os.system",
    "take_memory": "took 1",
    "exit_at_once": "the process ended with 0",
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("harness"))
    yield worker
    worker.close()


@pytest.mark.parametrize("seed", range(len(WAYS)), ids=WAYS)
def test_a_case_that_breaks_the_rule_fails_and_the_next_one_is_run(worker, seed):
    worker.run("misbehaving", len(WAYS))  # there is a process now, whose start takes its time
    worker.seconds = 1.0 if seed == list(WAYS).index("hang") else 60.0
    outcome = worker.run("misbehaving", seed)
    worker.seconds = 60.0
    assert outcome.ended == "failed"
    assert list(WAYS.values())[seed] in outcome.message
    assert worker.run("misbehaving", len(WAYS)).ended == "accepted"
    assert worker.run("misbehaving", len(WAYS) + 1).ended == "refused"
