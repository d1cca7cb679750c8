"""Messages stay one short line, whatever is wrong."""

import os
import time

import numpy as np
import pytest

from miaod_plugin.errors import DataError, did_you_mean, shown
from miaod_plugin.files import atomic_path


def test_a_message_is_one_line_whatever_the_file_is_called():
    assert str(DataError("a\nb\x1b[31m\ud800.xml: bad\r\n")) == r"a\nb\x1b[31m\ud800.xml: bad\r\n"
    assert str(DataError("Müller\\1.xml: 図")) == "Müller\\1.xml: 図"


def test_a_message_that_is_too_long_keeps_its_file_and_its_mend():
    said = str(DataError(f"a.xml: {'name ' * 100_000}; give it a name"))
    assert len(said) == 600 and said.startswith("a.xml: name") and said.endswith("name ; give it a name")


@pytest.mark.parametrize("value", ["it's", 3, 2.5, None, True, [1, ["a", (2,)]], {"b": 1}, float("nan"), b"\x00"])
def test_a_short_value_is_shown_as_python_writes_it(value):
    assert shown(value) == repr(value)


def laughs() -> list:
    """Return ten lists in one another of 10 ** 10 elements in all, as YAML's aliases make them."""
    value = ["ha"] * 10
    for _ in range(9):
        value = [value] * 10
    return value


def endless() -> list:
    value = []
    value.append(value)
    return value


HUGE = {
    "long string": "a" * 10**7,
    "control characters": "\n\x00\ud800" * 50,
    "long number": 10**100_000,
    "long numbers": [10**5000] * 3,
    "long list": list(range(10**6)),
    "nested without measure": laughs(),
    "nested without end": endless(),
    "several lines": np.eye(99),
}


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_any_value_is_shown_at_once_in_one_line_of_80_characters(value):
    start = time.perf_counter()
    text = shown(value)
    assert time.perf_counter() - start < 1 and len(text) <= 80 and text.isprintable()


def test_a_close_name_is_proposed_and_otherwise_the_known_ones_are_listed():
    assert did_you_mean("dgo", ["cat", "dog"]) == "; did you mean 'dog'?"
    assert did_you_mean("zebra", ["dog", "cat"]) == "; known: cat, dog" and did_you_mean("a", []) == "; known: none"
    assert did_you_mean(3, {7: "x", "y": 1}) == "; known: 7, y"


def test_a_close_name_among_very_many_or_very_long_ones_is_not_sought_for_ever():
    start = time.perf_counter()
    text = did_you_mean("class 1", [f"class {k}" for k in range(60_000)])
    assert text.endswith(" and 59970 more") and len(text) < 1000
    assert len(did_you_mean("a" * 10**6, ["a" * 10**6] * 40)) < 3000
    assert time.perf_counter() - start < 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")
def test_a_full_disk_is_told_with_the_file_that_was_to_be_written(tmp_path):
    path = tmp_path / "answer.json"
    with pytest.raises(OSError, match=r"No space left") as raised, atomic_path(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("more than it takes")
    assert raised.value.filename == str(path) and not list(tmp_path.iterdir())
