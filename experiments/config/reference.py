"""The reference of everything an experiment file may say, made from what checks it: `miaod config`."""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic_core import PydanticUndefined

from miaod_plugin import MIAOD, ObjectDetector
from miaod_plugin.errors import ConfigError, did_you_mean, shown
from miaod_plugin.mil.options import MODES, MIAODOptions
from miaod_plugin.parameters import described
from miaod_plugin.registry import (
    DETECTORS,
    EXECUTORS,
    STOPPING_RULES,
    STRATEGIES,
    TRAININGS,
    find,
    is_of_family,
    registered,
)
from miaod_plugin.settings.estimators import COMMON_PARAMETERS
from miaod_plugin.settings.sections import Section, options_of

from .schema import KINDS, ExperimentConfig

WIDTH = 100  # columns of the text
NAMED = {
    TRAININGS: "training",
    STRATEGIES: "strategy",
    DETECTORS: "detector",
    STOPPING_RULES: "stopping rule",
    EXECUTORS: "executor",
}


@dataclass(frozen=True)
class Entry:
    """A key, what it may be, its default as YAML (empty: it must be given), and what it means."""

    key: str
    allowed: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Part:
    """Entries that belong together."""

    title: str
    text: str
    entries: list[Entry]


def key_parts(kinds: Mapping[str, type[Section]] = KINDS) -> list[Part]:
    """Return every key of an experiment file, with the data sets of these kinds."""
    top = [entry for entry in _of_section(ExperimentConfig) if not entry.key.startswith("data.")]
    parts = [Part("An experiment", "", top)]
    for kind, section in kinds.items():
        parts.append(Part(f"data, of kind {kind}", section.__doc__, list(_of_section(section, "data."))))
    common = list(_of_function(ObjectDetector, COMMON_PARAMETERS, "training."))
    kind = Entry("trainings.NAME.kind", "text", "NAME", "The registered training that it is.")
    text = (
        "A registered training, whose parameters `miaod config NAME` lists, or one more for arms: what differs from"
        " what is said here of its kind; of a mapping such as `options`, the keys that differ."
    )
    return [*parts, Part("training", "Parameters of every training.", common), Part("trainings.NAME", text, [kind])]


def option_parts(name: str) -> list[Part]:
    """Return the options of what is called so: a training, strategy, detector, stopping rule, executor, or several.

    Raises
    ------
    ConfigError
        If nothing of that name is registered.
    """
    groups = [group for group in NAMED if name in registered(group) or is_of_family(group, name)]
    if not groups:
        known = {one for group in NAMED for one in registered(group)}
        raise ConfigError(
            f"{shown(name)} is no detector, strategy, training, stopping rule or executor{did_you_mean(name, known)}"
        )
    return [_option_part(group, name) for group in groups]


def _option_part(group: str, name: str) -> Part:
    function = find(group, name)
    text = _plain(inspect.cleandoc(function.__doc__ or "").split("\n\n")[0]).removeprefix("Return ")
    text = text[:1].upper() + text[1:]
    prefix = {TRAININGS: f"trainings.{name}.", EXECUTORS: "executor.options."}.get(group, "options.")
    entries = list(_of_function(function, options_of(function), prefix))
    if function is MIAOD:
        entries += _of_options(f"{prefix}options.")
    return Part(f"{NAMED[group]} {name}", text, entries)


def as_text(parts: list[Part]) -> str:
    """Return parts for a terminal."""
    lines = []
    for part in parts:
        lines += [part.title, "-" * len(part.title), *textwrap.wrap(part.text, WIDTH), ""]
        for entry in part.entries:
            default = f" (default {entry.default})" if entry.default else " (required)"
            lines.append(f"{entry.key}{default}")
            for text in (entry.meaning, f"May be {entry.allowed}."):
                lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
        if not part.entries:
            lines.append("It has no options.")
        lines.append("")
    return "\n".join(lines).rstrip()


def as_markdown() -> str:
    """Return the whole reference as a page: every key, and the options of what this package registers."""
    lines = [
        "# Configuration",
        "",
        "Everything that an experiment file may say, as `miaod config --markdown` prints it. `miaod config` shows the",
        "keys in a terminal, `miaod config NAME` the options of a detector, strategy or training. A key is changed for",
        "a run by `miaod run FILE training.batch_size=4 arms.0.strategy=random`, where 0 is the first of a list.",
    ]
    for part in key_parts({name: kind for name, kind in KINDS.items() if _built_in(kind)}):
        lines += ["", f"## {part.title}", "", *_table(part)]
    titles = {
        TRAININGS: "Trainings",
        DETECTORS: "Detectors",
        STRATEGIES: "Strategies",
        STOPPING_RULES: "Stopping rules",
        EXECUTORS: "Executors",
    }
    for group, title in titles.items():
        lines += ["", f"## {title}"]
        for name in registered(group):
            if _built_in(find(group, name)):
                lines += ["", f"### {name}", "", *_table(_option_part(group, name))]
    return "\n".join(lines) + "\n"


def _built_in(thing: Any) -> bool:
    return thing.__module__.startswith("miaod_plugin.")


def _table(part: Part) -> list[str]:
    text = [part.text.strip(), ""] if part.text else []
    if not part.entries:
        return [*text, "It has no options."]
    rows = []
    for entry in part.entries:
        default = f"`{entry.default}`" if entry.default else "required"
        rows.append(f"| `{entry.key}` | {entry.allowed} | {default} | {entry.meaning} |")
    return [*text, "| key | may be | default | meaning |", "| --- | --- | --- | --- |", *rows]


def _of_section(section: type[Section], prefix: str = "") -> Iterator[Entry]:
    """Yield the fields of a section, and after each that is itself one, or a list of them, its fields."""
    annotations = get_type_hints(section, include_extras=True)
    for name, field in section.model_fields.items():
        inner, a_list = _sections(field.annotation), get_origin(field.annotation) is list
        default = "" if field.is_required() else _yaml(field.get_default(call_default_factory=True))
        if field.discriminator:  # sections of which one is chosen
            allowed, inner = f"what follows below, by its {field.discriminator}", []
        elif inner:
            allowed = "a list of what follows" if a_list else "what follows"
            allowed += " or null" * (NoneType in get_args(field.annotation))
        else:
            allowed = _allowed(annotations[name])
        yield Entry(f"{prefix}{name}", allowed, default, _plain(field.description or ""))
        for one in inner:
            yield from _of_section(one, f"{prefix}{name}.{'0.' * a_list}")


def _sections(annotation: Any) -> list[type[Section]]:
    """Return the sections that an annotation names, also beside None or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _of_function(function: Callable, names: Any, prefix: str) -> Iterator[Entry]:
    meanings = parameter_texts(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in names:
            default = "" if parameter.default is parameter.empty else _yaml(parameter.default)
            yield Entry(f"{prefix}{name}", _allowed(parameter.annotation), default, meanings.get(name, ""))


def _of_options(prefix: str) -> Iterator[Entry]:
    meanings = parameter_texts(MIAODOptions)
    for field in fields(MIAODOptions):
        improved, faithful = (_yaml(getattr(MODES[mode], field.name)) for mode in ("improved", "faithful"))
        default = improved if improved == faithful else f"{improved}, faithful: {faithful}"
        yield Entry(f"{prefix}{field.name}", _allowed(field.type), default, meanings.get(field.name, ""))


def parameter_texts(function: Callable) -> dict[str, str]:
    """Return the numpydoc text of each parameter; where it says "as in `NAME`" of a registered name, that one's."""
    doc = inspect.cleandoc(function.__doc__ or "")
    section = re.split(r"\n\w+\n-+\n", doc.partition("Parameters\n----------\n")[2])[0]
    texts: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section):
        names, _, text = entry.partition("\n")
        texts |= dict.fromkeys(names.split(" : ")[0].split(", "), _plain(text))
    for other in re.findall(r"[Aa]s in `(\w+)`", doc):
        if found := _named(other):
            theirs = parameter_texts(found)
            texts |= {name: text for name, text in theirs.items() if texts.get(name, "As in").startswith("As in")}
    return texts


def _plain(text: str) -> str:
    """Return a text of docstrings on one line, with the quotes of Markdown."""
    return " ".join(text.split()).replace("``", "`")


def _named(name: str) -> Callable | None:
    if name in registered(DETECTORS):
        return find(DETECTORS, name)
    return {"ObjectDetector": ObjectDetector, "MIAOD": MIAOD}.get(name)


def _allowed(annotation: Any) -> str:
    """Return what an annotation allows, in the words of YAML, which has no paths."""
    words = described(annotation).replace("text, a path or None", "text or None")
    words = words.replace("a QueryStrategy", "the name of a strategy, {name, options}")
    return words.replace("None", "null").replace("True or False", "true or false")


def _yaml(value: Any) -> str:
    """Return a default as YAML."""
    if value is PydanticUndefined or isinstance(value, Section):
        return "as follows"
    if isinstance(value, list):
        value = [one.model_dump(exclude_unset=True) if isinstance(one, Section) else one for one in value]
    return value if isinstance(value, str) and value else json.dumps(value)
