"""The benchmarks of core-set, at a tiny size."""

import re
from importlib.util import find_spec

import numpy as np

from miaod_plugin.experiments.benchmarks.adversarial import measured, steps_of
from miaod_plugin.experiments.benchmarks.coreset import Size, coreset, large
from miaod_plugin.experiments.benchmarks.measure import Comparison, show, side_by_side

TINY = Size(pool=60, dimensions=8, labeled=4, picks=30)


def test_core_set_and_all_its_peers_come_to_the_same_choice(capsys):
    comparisons = [*coreset(TINY, TINY), *large(TINY)]
    installed = find_spec("skactiveml") is not None
    assert [one.same for one in comparisons] == [True, True, True if installed else None, True]
    assert [one.peer is not None for one in comparisons] == [True, True, installed, True]
    said = r"core-set, 30 of 60 x 8, 4 labelled: at most 0\.\d\d GB over the embeddings\n"
    assert re.fullmatch(said, capsys.readouterr().out)


def test_ours_and_the_peer_take_turns_and_the_first_round_only_warms_up(monkeypatch):
    clock, ran = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def taking(name, *seconds):
        seconds = iter(seconds)

        def function():
            ran.append(name)
            clock[0] += next(seconds)
            return np.array([len(ran) < 3])

        return function

    compared = side_by_side("sum", taking("ours", 0.5, 4, 3), taking("peer", 1, 6, 9), 2, same=True)
    assert ran == ["ours", "peer"] * 3 and compared == Comparison("sum", 3, 6, True)


def test_the_table_says_how_many_times_as_fast_what_differs_and_what_is_not_installed(capsys):
    show([Comparison("a", 2.0, 5.0, True), Comparison("b", 1.0, 0.5, False), Comparison("c", 1.0, None)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in line.strip("│").split("│")] for line in lines] == [
        ["a", "2.0000", "5.0000", "2.50", "yes"],
        ["b", "1.0000", "0.5000", "0.50", "NO"],
        ["c", "1.0000", "not installed", "", ""],
    ]


def test_two_classifiers_and_a_mil_head_are_more_operations_and_frozen_ones_fewer():
    found = measured(steps_of("retinanet_tiny", {"width": 8, "fpn_channels": 16}, (64, 64), 2), repeats=1)
    operations = {name: count for name, (_, count) in found.items()}
    assert operations["label-set"] > operations["minimising, labelled"] > operations["supervised"]
    assert operations["maximising, labelled"] < operations["minimising, labelled"]
