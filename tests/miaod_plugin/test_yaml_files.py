import os
import time

import pytest
from tiny_experiment import write_experiment

from miaod_plugin.errors import ConfigError
from miaod_plugin.experiments.config.schema import load_config
from miaod_plugin.settings.yaml_files import MOST_BYTES, MOST_NODES, parse_yaml, read_yaml

EXPANDING = "a: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
MERGING = "a: &a0 {k: x}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EXPANDING, r"not valid YAML: line 5, column \d+: more than 20,000 keys and values, aliases written out"),
        (MERGING, "aliases written out"),
        ("".join(f"k{n}: 1\n" for n in range(30_000)), "more than 20,000 keys and values"),
        ("a: " + "[" * 5_000, "nested more than 20 deep"),
        ("a: " + "{a: " * 5_000, "nested more than 20 deep"),
        ("".join(f"{' ' * n}a:\n" for n in range(800)), "nested more than 20 deep"),
        ("a: &a [1, *a]", "line 1, column 11: the alias stands for something that it is a part of"),
        ("a: &a {b: *a}", "the alias stands for something that it is a part of"),
        (
            "a: !!int abc",
            "line 1, column 4: the tag 'tag:yaml.org,2002:int' is not allowed; write the value without it",
        ),
        ("a: !!timestamp 2026-01-01", "the tag 'tag:yaml.org,2002:timestamp' is not allowed"),
        ("a: !!binary =", "the tag 'tag:yaml.org,2002:binary' is not allowed"),
        ("a: !!omap [b: 1]", "could not determine a constructor"),
        ("a: 1e400", "'1e400' is not a finite number of 64 bits"),
        ("a: .nan", "'.nan' is not a finite number"),
        ("a: 9223372036854775808", "'9223372036854775808' is not a finite number of 64 bits"),
        ("a: 1" + ":59" * 1_000, "is not a finite number of 64 bits"),
        ("a: " + "9" * 4_000, "is not a finite number of 64 bits"),
        ("a: " + "x" * 5_000, "a text of more than 4,096 characters"),
        ('a: "b\\0"', r"line 1, column 4: the text holds the character '\\x00'; leave it out"),
        ('a: "b\\nc"', r"the text holds the character '\\n'"),
        ('"a\\ud800": 1', r"the text holds the character '\\ud800'"),
        ('a: "\\U00110000"', "not valid YAML"),
        ("a: b\0", "not valid YAML"),
        ("2: a", "the key 2 is not text; put it in quotes"),
        ("a: {<<: {2: a}}", "the key 2 is not text; put it in quotes"),
        ("[a]: 1", "unhashable key"),
        ("seeds: [0]\nseeds: [1]", "line 2, column 1: the key 'seeds' appears twice"),
        ("--- 1\n--- 2", "but found another document"),
        ("", "must be a mapping of keys to values, not None"),
        ("x" * (MOST_BYTES + 1), "has more than 400,000 bytes"),
        (b"a: \xff", r"byte 3 \(0xff\) is not UTF-8; save it as UTF-8 text"),
        ("a: 1".encode("utf-16"), r"byte 0 \(0xff\) is not UTF-8; save it as UTF-8 text"),
    ],
)
def test_a_hostile_yaml_is_refused_at_once_in_one_line_that_names_it(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=message) as refused:
        read_yaml(path)
    assert time.perf_counter() - start < 10  # seconds; it takes well under one on an idle machine
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


def test_a_place_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place, message in [
        (tmp_path, "is not a file; give one"),
        (tmp_path / "pipe", "is not a file; give one"),
        ("/dev/zero", "is not a file; give one"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null byte"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_config(place)


def test_yaml_within_the_bounds_is_read_as_it_looks():
    many = ", ".join(map(str, range(MOST_NODES - 10)))
    assert len(parse_yaml(f"a: [{many}]", "here")["a"]) == MOST_NODES - 10
    read = parse_yaml("a: &x {b: [1]}\nc: *x\nd: {<<: *x, e: 2026-99-99}\nf: [1e-3, -5, yes, null, é😀, =]", "here")
    assert read["a"] == read["c"] == {"b": [1]} and read["a"] is not read["c"]
    assert read["d"] == {"b": [1], "e": "2026-99-99"}
    assert read["f"] == [0.001, -5, True, None, "é😀", "="]


def test_a_byte_order_mark_is_no_part_of_the_experiment(tmp_path):
    path = write_experiment(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_config(path).name == "tiny"


@pytest.mark.parametrize(
    "override",
    [
        ".".join("a" * 3_000) + "=1",
        "arms.-1.strategy=random",
        f"seeds.{'9' * 5_000}=1",
        "seeds.\u0661=1",
        "a\nb=1",
        "a\ud800=1",
        "training.batch_size=" + "[" * 3_000,
        "training.batch_size=!!int abc",
        "data.root.x=1",
        "training.options=" + EXPANDING,
        f"{'x' * 300}=1",
    ],
    ids=lambda override: ascii(override[:20]),
)
def test_a_hostile_override_is_refused_in_one_line(tmp_path, override):
    with pytest.raises(ConfigError) as refused:
        load_config(write_experiment(tmp_path), [override])
    assert str(refused.value).isprintable() and len(str(refused.value)) < 2_000


def test_an_override_changes_one_place_where_an_alias_repeats_it(tmp_path):
    path = write_experiment(tmp_path, arms=None)
    arms = "arms: [&a {training: supervised, strategy: entropy, options: {over: instances}}, {<<: *a, name: b}]\n"
    path.write_text(path.read_text() + arms)
    config = load_config(path, ["arms.0.options.over=detections"])
    assert [arm.options["over"] for arm in config.arms] == ["detections", "instances"]
