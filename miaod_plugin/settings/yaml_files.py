"""YAML as settings use it: read in bounded time and memory, and refused in one line that names the place."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, shown
from ..files import read_text

# Far more than any settings need, and read within a second or two.
MOST_BYTES = 400_000
MOST_NODES = 20_000  # keys, values and collections, with what aliases stand for written out
MOST_DEPTH = 20
MOST_TEXT = 4_096  # characters of one key or value; no file system takes a longer path

_TAG = "tag:yaml.org,2002:"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises
    ------
    ConfigError
        One line that names the file, and where it has one the line in it.
    """
    content = parse_yaml(read_text(path, MOST_BYTES), str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not {shown(content)}")
    return content


def parse_yaml(text: str, where: str) -> Any:
    """Return what a YAML text stands for: dicts with text as keys, lists, text, finite numbers, booleans and None.

    Raises
    ------
    ConfigError
        If it is not valid, says a key twice, or goes beyond the bounds of this module; begins with `where`.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{where}: not valid YAML: {place}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except (ValueError, OverflowError) as error:  # escapes beyond Unicode in quoted text
        raise ConfigError(f"{where}: not valid YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML without its traps.

    `1e-3` is the number it looks like (YAML 1.1 wants `1.0e-3`) and `2026-01-31` the text; a key may stand once, and is
    text. What aliases stand for is written out, so that it counts, and nothing is shared or holds itself.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        with self._within_bounds(event.start_mark):
            node = super().compose_node(parent, index)
            return self._written_out(node, event.start_mark) if isinstance(event, yaml.AliasEvent) else node

    def compose_scalar_node(self, anchor):
        event = self.peek_event()
        if len(event.value) > MOST_TEXT:
            _refuse(f"a text of more than {MOST_TEXT:,} characters", event.start_mark)
        if found := _CONTROL.search(event.value):
            _refuse(f"the text holds the character {found[0]!a}; leave it out", event.start_mark)
        if event.tag not in (None, "!", f"{_TAG}str"):
            _refuse(f"the tag {shown(event.tag)} is not allowed; write the value without it", event.start_mark)
        return super().compose_scalar_node(anchor)

    @contextmanager
    def _within_bounds(self, mark: yaml.Mark) -> Iterator[None]:
        self._nodes += 1
        self._depth += 1
        if self._nodes > MOST_NODES:
            _refuse(f"more than {MOST_NODES:,} keys and values, aliases written out", mark)
        if self._depth > MOST_DEPTH:
            _refuse(f"nested more than {MOST_DEPTH} deep", mark)
        yield
        self._depth -= 1

    def _written_out(self, node: yaml.Node, mark: yaml.Mark) -> yaml.Node:
        """Return a copy of what an alias at `mark` stands for."""
        if isinstance(node, yaml.ScalarNode):
            return node
        if node.end_mark is None:
            _refuse("the alias stands for something that it is a part of", mark)
        parts = []
        for part in node.value:
            with self._within_bounds(mark):
                pair = isinstance(part, tuple)
                parts.append(
                    tuple(self._written_out(one, mark) for one in part) if pair else self._written_out(part, mark)
                )
        return type(node)(node.tag, parts, node.start_mark, node.end_mark, node.flow_style)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == f"{_TAG}str" and key.value in seen:
                _refuse(f"the key {shown(key.value)} appears twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        mapping = super().construct_mapping(node, deep=deep)
        for key in mapping:
            if not isinstance(key, str):
                _refuse(f"the key {shown(key)} is not text; put it in quotes", node.start_mark)
        return mapping

    def construct_number(self, node):
        """Return an int of 64 bits or a finite float."""
        whole = node.tag == f"{_TAG}int"
        try:
            value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        except ValueError:
            _refuse(f"{shown(node.value)} is not a number", node.start_mark)
        if not (-(2**63) <= value < 2**63 if whole else math.isfinite(value)):
            _refuse(f"{shown(node.value)} is not a finite number of 64 bits", node.start_mark)
        return value


def _refuse(problem: str, mark: yaml.Mark) -> None:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_KINDS = ("null", "bool", "str", "seq", "map")
_Loader.yaml_constructors = {
    tag: _Loader.yaml_constructors[tag] for tag in (None, *(f"{_TAG}{kind}" for kind in _KINDS))
}  # fmt: skip
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
for _kind in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_kind}", _Loader.construct_number)
_Loader.add_implicit_resolver(
    f"{_TAG}float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$", re.ASCII), list("-+0123456789")
)
