"""Cases that break the rule, each in one way: for the test that the campaign notices."""

import ctypes
import os
import time
from pathlib import Path
from random import Random

from cases import Case

from miaod_plugin.errors import DataError


def crash(folder: Path) -> None:
    ctypes.string_at(0)


def hang(folder: Path) -> None:
    time.sleep(1000)


def traceback(folder: Path) -> None:
    {}["key"]


def insane_result(folder: Path) -> None:
    assert 1 == 2, "not sane"


def silence(folder: Path) -> None:
    raise DataError("it is broken; mend it")


def write_outside(folder: Path) -> None:
    (folder.parent / "somewhere else.txt").write_text("x")


def delete_outside(folder: Path) -> None:
    os.unlink(folder.parent / "outside.txt")


def start_a_program(folder: Path) -> None:
    os.system("true")


def take_memory(folder: Path) -> None:
    (b"x" * (1 << 30)).count(b"y")


def exit_at_once(folder: Path) -> None:
    os._exit(0)


def accept(folder: Path) -> None:
    (folder / "a.txt").write_text("x")


def refuse(folder: Path) -> None:
    raise DataError("a.txt: it is broken; mend it")


WAYS = (
    *(crash, hang, traceback, insane_result, silence, write_outside, delete_outside, start_a_program, take_memory),
    *(exit_at_once, accept, refuse),
)


class Family:
    """The case is the seed's: ``case`` of seed 3 is the fourth way."""

    def __init__(self, folder: Path):
        pass

    def case(self, rng: Random, folder: Path) -> Case:
        way = WAYS[int(folder.name.rpartition("-")[2])]
        return Case(way.__name__, lambda: way(folder), ("a.txt",))
