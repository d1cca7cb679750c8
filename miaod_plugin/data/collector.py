"""Python's search for reference cycles, put off while a data set is loaded."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Make no search for reference cycles, also as a decorator.

    The entries of annotation files, which hold no cycles, would be gone through again and again while they come in, so
    that the cost of each grows with their number.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
