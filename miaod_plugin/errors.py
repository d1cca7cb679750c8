"""Errors that a person can act on: one line that says where, what and how to mend it."""

from collections.abc import Iterable
from difflib import get_close_matches


class MiaodError(ValueError):
    """Something the user wrote or supplied is wrong; the message is one line and the command line exits with 2."""


class DataError(MiaodError):
    """A data set, an annotation or an image is not usable; the message names the file, the field and the value."""


class ConfigError(MiaodError):
    """An experiment file or a parameter is wrong; the message names the key, the value and what is allowed."""


class TrainingError(MiaodError):
    """A training cannot go on; the message names the step, the losses and what to change."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, else ``"; known: a, b, c"``."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"
