import re

import pytest

from miaod_plugin.experiments.store.loss_record import LossRecord, read_losses


def record(path, first, last):
    losses = LossRecord(path, lambda *_: None)
    for step in range(first, last + 1):
        losses({"step": step, "total": 6, "round": "label", "losses": {"box": float(step)}})
    return losses


def test_a_resumed_training_continues_the_record_without_a_gap_or_a_repeat(tmp_path):
    path = tmp_path / "losses.jsonl"
    record(path, 1, 5)
    path.write_text(re.sub(r'"seconds": [\d.]+', '"seconds": 100.0', path.read_text()))  # a training that took long
    losses = record(path, 4, 6)  # its checkpoint was behind
    assert [row["step"] for row in read_losses(path)] == [1, 2, 3, 4, 5, 6]
    assert min(losses.seconds(), *(row["seconds"] for row in read_losses(path))) >= 100, "so does the time it took"
    assert losses.last_means(2) == {"box": pytest.approx(5.5)}


def test_a_training_that_begins_anew_replaces_the_record(tmp_path):
    path = tmp_path / "losses.jsonl"
    record(path, 1, 5)
    record(path, 1, 2)
    assert [row["step"] for row in read_losses(path)] == [1, 2]


def test_a_line_cut_off_by_a_power_failure_is_left_out(tmp_path):
    path = tmp_path / "losses.jsonl"
    record(path, 1, 3)
    path.write_text(path.read_text()[:-9])
    assert [row["step"] for row in read_losses(path)] == [1, 2]
