"""How an arm looks wherever it is drawn, by its number: colour, marker and line, so that none of them matters alone."""

from collections.abc import Sequence

import numpy as np
from sklearn.isotonic import isotonic_regression

LONGEST_LABEL = 24  # characters of a name that is written at the end of its curve; the legend has the others

# Okabe and Ito's palette, told apart by colour-blind readers; markers and lines tell arms apart in grey print too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
# For matplotlib.
MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)), "-")
# The same for SVG: stroke-dasharray, and paths of unit size.
DASHES = ("", "7 3", "7 3 2 3", "2 2.5", "9 3 2 3 2 3", "12 4", "4 2", "")
SHAPES = (
    "M-1,0A1,1 0 1 1 1,0A1,1 0 1 1 -1,0Z",
    "M-.9,-.9H.9V.9H-.9Z",
    "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "M0,-1.15L1.15,.95H-1.15Z",
    "M0,1.15L1.15,-.95H-1.15Z",
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "M-1.1,-.6L-.6,-1.1L0,-.5L.6,-1.1L1.1,-.6L.5,0L1.1,.6L.6,1.1L0,.5L-.6,1.1L-1.1,.6L-.5,0Z",
    "M0,-1.3L.32,-.42L1.24,-.4L.5,.16L.76,1.05L0,.52L-.76,1.05L-.5,.16L-1.24,-.4L-.32,-.42Z",
)


def short(name: str, most: int) -> str:
    """Return a name of at most `most` characters: what is too long loses its middle, as ends tell arms apart."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float] | None:
    """Move the places of labels apart, as little as possible (least squares), and into ``low..high``.

    Returns
    -------
    list of float or None
        In the order of `places`, no two nearer than `gap`; ``None`` when they do not fit.
    """
    if not places:
        return []
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(order))
    room = high - low - gap * (len(order) - 1)
    if room < 0:
        return None
    moved = np.empty(len(order))
    moved[order] = isotonic_regression(np.asarray(places)[order] - steps, y_min=low, y_max=low + room) + steps
    return moved.tolist()


def colour_of(number: int) -> str:
    """Return the colour of an arm; they come again after eight arms."""
    return COLOURS[number % len(COLOURS)]


def mark_of(number: int) -> int:
    """Return which marker and line an arm has; with a colour that comes again they are others."""
    return (number + number // len(COLOURS)) % len(MARKERS)
