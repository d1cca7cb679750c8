"""In which order the cells of a run are started."""

from collections.abc import Mapping

from ..store.layout import Cell, Run


def steps_ahead(run: Run, steps: Mapping[Cell, int]) -> dict[Cell, int]:
    """Return for each cell the optimiser steps of the longest chain that begins with it, its own among them.

    A run cannot end before its longest chain. With the cells that have most ahead of them started first (critical path
    first, R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969), no long chain begins when all else ends.

    Parameters
    ----------
    steps : mapping of Cell to int
        What the cells that train take.
    """
    ahead: dict[Cell, int] = {}
    for chain in run.chains():
        left = 0
        for cell in reversed(chain):
            left += steps.get(cell, 0)
            ahead[cell] = left
    for cell in run.shared_cells():
        ahead[cell] = steps[cell] + max((ahead[following] for following in run.next_cells(cell)), default=0)
    return ahead
