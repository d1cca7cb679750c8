"""A run keeps its images decoded while it goes on: with the same results, within bounds, and no longer."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import start_until, wait_for_end
from tiny_experiment import TINY, bits, run_tiny, untimed, write_experiment

from miaod_plugin.data import make_digit_scenes, write_voc
from miaod_plugin.experiments.runner import run

BOUND = 100_000  # 8 of the 30 images


def on_files(folder: Path, **training) -> dict:
    """Return the keys of an experiment on image files, which are written the first time."""
    if not (folder / "scenes").exists():
        scenes = make_digit_scenes(30, n_classes=3, random_state=0)
        for split, rows in (("train", np.arange(22)), ("test", np.arange(22, 30))):
            write_voc(replace(scenes.subset(rows), split=split), folder / "scenes")
    data = {"kind": "voc", "root": str(folder / "scenes"), "train": {"split": "train"}, "test": {"split": "test"}}
    small = {"arms": TINY["arms"][1:2], "budgets": [4], "seeds": [0, 1]}
    return small | {"data": data, "training": TINY["training"] | training}


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds child processes in /proc")
def test_a_run_that_keeps_pixels_ends_with_the_bits_of_one_that_does_not(tmp_path):
    for name in ("decoding", "keeping"):
        (tmp_path / name).mkdir()
    expected, _ = run_tiny(tmp_path / "decoding", **on_files(tmp_path, cache_bytes=0))
    keeping = on_files(tmp_path, cache_bytes=BOUND, checkpoint_seconds=0)
    yaml, runs = write_experiment(tmp_path / "keeping", **keeping, jobs=2), tmp_path / "keeping" / "runs"
    process, workers = start_until(yaml, runs, "tiny/shared/*/*/metrics.json")
    process.kill()
    process.communicate()
    wait_for_end(workers)
    kept = runs / "tiny" / "pixels.cache"
    assert BOUND - 64 * 64 * 3 - 100 < kept.stat().st_size <= BOUND
    with open(kept, "ab") as file:
        file.write(b"what a process that is killed had begun to write")
    ended, _ = run_tiny(tmp_path / "keeping", **keeping)
    assert untimed(ended) == untimed(expected) and bits(ended) == bits(expected)
    assert not list(ended.glob("pixels*")) and not list(expected.glob("pixels*"))


def test_a_disk_without_room_is_said_in_one_line_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "LEAVE_FREE", 2**62)
    _, printed = run_tiny(tmp_path, **on_files(tmp_path) | {"seeds": [0]})
    assert printed.count("of the disk is free: images are not kept decoded") == 1
