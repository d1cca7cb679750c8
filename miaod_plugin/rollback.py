"""All or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unchanged_if_it_fails(thing: object) -> Iterator[None]:
    """Give an object back the attributes it had if what is done inside fails, Ctrl-C included."""
    before = dict(vars(thing))
    try:
        yield
    except BaseException:
        vars(thing).clear()
        vars(thing).update(before)
        raise
