"""Errors that a person can act on: one line that says where, what and how to mend it."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches

# `did_you_mean` compares a name with at most so many known ones, and lists at most so many of them.
MOST_COMPARED, MOST_LISTED = 5_000, 30
LONGEST_VALUE = 80  # characters of a value in a message
LONGEST_MESSAGE = 600


class MiaodError(ValueError):
    """Something the user wrote or supplied is wrong; the message is one line and the command line exits with 2."""

    def __str__(self) -> str:
        text = one_line(super().__str__())
        if len(text) <= LONGEST_MESSAGE:
            return text
        # The beginning names the file, the end the mend.
        return f"{text[: LONGEST_MESSAGE // 2]} ... {text[5 - LONGEST_MESSAGE // 2 :]}"


class DataError(MiaodError):
    """A data set, an annotation or an image is not usable; the message names the file, the field and the value."""


class ConfigError(MiaodError):
    """An experiment file or a parameter is wrong; the message names the key, the value and what is allowed."""


class TrainingError(MiaodError):
    """A training cannot go on; the message names the step, the losses and what to change."""


def one_line(text: str) -> str:
    r"""Return `text` with all that does not print escaped: line breaks, control characters, surrogates (``\ud800``)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: object) -> str:
    """Return the repr of a value for a message: one line of at most 80 characters, whatever the value is."""
    text = _short_repr.repr(value)
    text = one_line(" ".join(text.split()) if "\n" in text else text)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def cut_list(names: Iterable[object], most: int = 5) -> str:
    """Return the first names of a list for a message, each cut, and how many more there are."""
    names = list(map(str, names))
    first = [name if len(name) <= LONGEST_VALUE else f"{name[: LONGEST_VALUE - 3]}..." for name in names[:most]]
    return ", ".join(first) + (f" and {len(names) - most} more" if len(names) > most else "")


class _ShortRepr(reprlib.Repr):
    """A repr whose time and size are bounded, also of values that are huge, nested without end or hold themselves."""

    def __init__(self):
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxarray = 30
        self.maxstring = self.maxlong = self.maxother = 4 * LONGEST_VALUE

    def repr_str(self, value: str, level: int) -> str:
        return repr(value[: self.maxstring])

    def repr_int(self, value: int, level: int) -> str:
        return repr(value) if value.bit_length() < self.maxlong else f"a number of {value.bit_length()} bits"


_short_repr = _ShortRepr()


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, else ``"; known: a, b, c"``; both are bounded."""
    name, known = str(name), sorted(map(str, known))
    if len(name) <= LONGEST_VALUE and len(known) <= MOST_COMPARED:
        close = get_close_matches(name, known, n=1)
        if close:
            return f"; did you mean {close[0]!r}?"
    listed = [text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..." for text in known[:MOST_LISTED]]
    more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    return f"; known: {', '.join(listed) or 'none'}{more}"
