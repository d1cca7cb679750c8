"""What a parameter may be, declared once: by the annotation of the function or class that takes it.

The same declaration refuses a wrong argument, a wrong value in an experiment file, and is what `miaod config` prints.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np

from .errors import ConfigError, shown
from .randomness import LARGEST_SEED


class Constraint:
    """What ``Annotated[type, constraint]`` allows; also understood by pydantic."""

    @property
    def words(self) -> str:
        """What is allowed, to follow "give"."""
        raise NotImplementedError

    def accepts(self, value: object) -> bool:
        """Whether a value is allowed."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source, handler):
        from pydantic_core.core_schema import no_info_plain_validator_function

        def checked(value: object) -> object:
            if not self.accepts(value):
                raise ValueError(_refusal(value, self.words))
            return value

        return no_info_plain_validator_function(checked)


@dataclass(frozen=True)
class Whole(Constraint):
    """A whole number, both ends included."""

    least: int = 0
    most: int = 10**9
    multiple_of: int = 1

    @property
    def words(self) -> str:
        kind = "a whole number" if self.multiple_of == 1 else f"a multiple of {self.multiple_of}"
        return f"{kind} from {self.least} to {self.most:,}"

    def accepts(self, value: object) -> bool:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return whole and self.least <= value <= self.most and value % self.multiple_of == 0


@dataclass(frozen=True)
class Number(Constraint):
    """A finite number; the ends are included unless `above` and `below` are set."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    @property
    def words(self) -> str:
        least = f"above {self.least:g}" if self.above else f"from {self.least:g}"
        if math.isinf(self.most):
            return "a finite number" if math.isinf(self.least) else f"a number {least}" + " on" * (not self.above)
        upto = "to below" if self.below else "and up to" if self.above else "to"
        return f"a number {least} {upto} {self.most:g}"

    def accepts(self, value: object) -> bool:
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not number or not -1e300 < value < 1e300:  # before anything overflows; also refuses nan
            return False
        return self.least <= value <= self.most and not (
            (self.above and value == self.least) or (self.below and value == self.most)
        )


@dataclass(frozen=True)
class Names(Constraint):
    """Different names in an order, as text or where `numbers` is set as whole numbers."""

    most: int = 10_000
    numbers: bool = True

    @property
    def words(self) -> str:
        return f"a sequence of 1 to {self.most:,} different names"

    def accepts(self, value: object) -> bool:
        if not _is_sequence(value) or not 1 <= len(value) <= self.most:
            return False
        kinds = str | int | np.integer if self.numbers else str
        if not all(isinstance(name, kinds) and not isinstance(name, bool) for name in value):
            return False
        return len({str(name) for name in value}) == len(value)


@dataclass(frozen=True)
class FilePath(Constraint):
    """A path that a file system can have."""

    longest_name: int = 240  # bytes of one name: file systems take 255, less what is added to temporary files

    @property
    def words(self) -> str:
        return f"a path whose names have at most {self.longest_name} bytes"

    def accepts(self, value: object) -> bool:
        if not isinstance(value, str) or not value or len(value) > 4000 or not value.isprintable():
            return False
        return all(len(name.encode()) <= self.longest_name for name in value.split("/"))


@dataclass(frozen=True)
class FolderName(Constraint):
    """A name that a folder can have on every system."""

    longest: int = 200
    reserved = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows

    @property
    def words(self) -> str:
        kinds = "letters, digits and + _ . -"
        return f"1 to {self.longest} {kinds}, a letter or digit first, no dot last, and no name reserved by Windows"

    def accepts(self, value: object) -> bool:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+_.-]*", value):
            return False
        return len(value) <= self.longest and value[-1] != "." and not self.reserved.fullmatch(value)


@dataclass(frozen=True)
class Several(Constraint):
    """A sequence of a length, whose entries are all of one annotation."""

    entry: Any
    count: int

    @property
    def words(self) -> str:
        return f"{self.count} values, each {described(self.entry)}"

    def accepts(self, value: object) -> bool:
        if not _is_sequence(value) or len(value) != self.count:
            return False
        return all(accepts(self.entry, one) for one in value)


def _is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)


Count = Annotated[int, Whole(1)]
Natural = Annotated[int, Whole(0)]
Positive = Annotated[float, Number(0, above=True)]
NonNegative = Annotated[float, Number(0)]
Probability = Annotated[float, Number(0, 1)]
Share = Annotated[float, Number(0, 1, above=True)]
Seed = Annotated[int, Whole(0, LARGEST_SEED)]
RandomState = Seed | np.random.Generator | np.random.RandomState | None

_WORDS = {
    NoneType: "None",
    bool: "True or False",
    str: "text",
    int: "a whole number",
    float: "a finite number",
    Path: "a path",
    Mapping: "a mapping of names to values",
    dict: "a mapping of names to values",
    Callable: "a function",
}


def accepts(annotation: object, value: object) -> bool:
    """Whether a value is what an annotation says; one that cannot be checked accepts everything."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        constraints = [constraint for constraint in args[1:] if isinstance(constraint, Constraint)]
        return all(one.accepts(value) for one in constraints) if constraints else accepts(args[0], value)
    if origin in (Union, UnionType):
        return any(accepts(one, value) for one in args)
    if origin is Literal:
        return any(isinstance(value, type(one)) and value == one for one in args)
    if origin in (list, tuple):  # of entries of one kind
        return isinstance(value, origin) and all(accepts(args[0], one) for one in value)
    if annotation is int:
        return Whole(-(2**63), 2**63 - 1).accepts(value)
    if annotation is float:
        return Number().accepts(value)
    if annotation is bool:
        return isinstance(value, bool | np.bool_)
    if annotation is None:
        return value is None
    try:
        return annotation is inspect.Parameter.empty or isinstance(value, origin or annotation)
    except TypeError:  # Any, a text, a protocol
        return True


def described(annotation: object) -> str:
    """Return what an annotation allows in words, to follow "give"."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        constraints = [constraint.words for constraint in args[1:] if isinstance(constraint, Constraint)]
        return " and ".join(constraints) or described(args[0])
    if origin in (Union, UnionType):
        return _any_of(sorted((described(one) for one in args), key=lambda words: words.startswith("a list")))
    if origin is Literal:
        return _any_of([repr(one) for one in args])
    if origin in (list, tuple):
        return f"a {origin.__name__}, each {described(args[0])}"
    kind = origin or annotation
    return _WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def _any_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def wrong_argument(function: Callable, values: Mapping[str, object]) -> tuple[str, str] | None:
    """Return the name of the first argument that `function` does not take, and why, or None.

    Parameters
    ----------
    function : function or class
        Its annotations say what is allowed. A default always is.
    values : mapping
        Arguments by name; names that `function` does not have are left to Python.
    """
    parameters = inspect.signature(function).parameters
    for name in values.keys() & parameters.keys():
        annotation, value = parameters[name].annotation, values[name]
        if value is not parameters[name].default and not accepts(annotation, value):
            return name, _refusal(value, described(annotation))
    return None


def _refusal(value: object, allowed: str) -> str:
    return f"{shown(value)} is not allowed; give {allowed}"


def check_arguments(function: Callable, values: Mapping[str, object], where: str = "") -> None:
    """Raise a ConfigError that names the first wrong argument after `where`; see `wrong_argument`."""
    if wrong := wrong_argument(function, values):
        raise ConfigError(f"{where}{wrong[0]}: {wrong[1]}")


def checked(function: Callable) -> Callable:
    """Decorate a function so that its arguments are checked by its annotations before it is called."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args, **kwargs):
        check_arguments(function, signature.bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return call
