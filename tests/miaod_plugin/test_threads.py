import os
import subprocess
import sys

import pytest
import torch

from miaod_plugin import ObjectDetector, threads
from miaod_plugin.data import make_digit_scenes
from miaod_plugin.threads import usable_cores, waits_in_vain


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_cores_that_the_process_is_not_bound_to_do_not_count():
    bound = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(bound)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, bound)


@pytest.mark.parametrize(
    ("quota", "share"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_container_gives_no_more_cores_than_its_quota(tmp_path, quota, share):
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    everything = usable_cores(tmp_path / "missing")
    assert usable_cores(file) == (share or everything)


def test_the_command_waits_passively_from_before_torch_is_imported():
    code = """
import os, sys
from miaod_plugin.cli.app import main
before = "torch" in sys.modules, os.environ.get("OMP_WAIT_POLICY")  # importing changes nothing
sys.argv = ["miaod", "--version"]
try:
    main()
except SystemExit:
    print(*before, os.environ["OMP_WAIT_POLICY"])
"""
    for chosen, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
        ended = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert ended.stdout.splitlines()[-1] == f"False {chosen} {expected}", "what the user has chosen stays"


def test_threads_wait_in_vain_where_several_wait_actively_on_a_busy_machine():
    assert waits_in_vain(2, 7.0, 2, {})
    assert not waits_in_vain(1, 7.0, 2, {})
    assert not waits_in_vain(2, 2.0, 2, {}), "its own threads are part of the load"
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        assert not waits_in_vain(2, 7.0, 2, {name: "chosen"})


def test_a_training_that_would_crawl_on_a_busy_machine_says_once_what_to_do(monkeypatch, caplog):
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0 * os.cpu_count(), 0.0, 0.0))
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    threads._warn.cache_clear()
    data = make_digit_scenes(2, random_state=0)
    detector = ObjectDetector("retinanet_tiny", classes=data.classes, max_steps=1, random_state=0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        detector.fit(data.X, data.y).predict(data.X)
    finally:
        torch.set_num_threads(before)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "start Python with OMP_WAIT_POLICY=PASSIVE, or call torch.set_num_threads(1)" in message
