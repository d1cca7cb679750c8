"""The pieces that charts are made of, as inline SVG: no script, no style sheet of their own.

Every text goes through `Markup.format`, which escapes it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .looks import DASHES, SHAPES, colour_of, mark_of

INK, MUTED, RULE = "#1f2328", "#59636e", "#e4e7eb"
FONT = "font-size:12px;fill:" + MUTED
CHARACTER = 7.5  # pixels, of a letter of this font at most on average


@dataclass(frozen=True)
class Frame:
    """A plot area in pixels and the values at its edges."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: int = 40
    right: int = 14
    top: int = 30
    bottom: int = 44

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low or 1) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        clamped = min(max(value, low), high)
        return self.height - self.bottom - (clamped - low) / (high - low or 1) * (self.height - self.top - self.bottom)


def path(places: Sequence[tuple[float, float]], look: int) -> Markup:
    """An arm's line through some places."""
    shape = Markup(
        '<path d="{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" stroke-dasharray="{}"/>'
    )
    return shape.format(moves(places), colour_of(look), DASHES[mark_of(look)])


def moves(places: Sequence[tuple[float, float]]) -> str:
    """A path's instructions: from place to place."""
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in places)


def marker(x: float, y: float, look: int, title: str = "") -> Markup:
    """An arm's marker, with a text that shows when the pointer rests on it."""
    shape = Markup(
        '<path d="{}" transform="translate({:.1f},{:.1f}) scale(4.6)" fill="{}" stroke="#fff" stroke-width=".22">'
        "{}</path>"
    )
    inside = Markup("<title>{}</title>").format(title) if title else ""
    return shape.format(SHAPES[mark_of(look)], x, y, colour_of(look), inside)


def dot(x: float, y: float, look: int) -> Markup:
    """A seed of an arm."""
    shape = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.2" fill="{}" fill-opacity=".5"/>')
    return shape.format(x, y, colour_of(look))


def arm(look: int, marks: Sequence[Markup]) -> Markup:
    """What belongs to one arm, so that its legend entry can hide it."""
    return Markup('<g data-arm="{}">{}</g>').format(look, Markup("").join(marks))


def line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1) -> Markup:
    """A straight line from (x0, y0) to (x1, y1)."""
    shape = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}"/>')
    return shape.format(x0, y0, x1, y1, colour, width)


def text(x: float, y: float, text: str, anchor: str) -> Markup:
    """Text that starts, ends or is centred at (x, y), as `anchor` says."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" style="{}">{}</text>').format(x, y, anchor, FONT, text)


def halo(x: float, y: float, text: str) -> Markup:
    """Text that stays readable over lines."""
    style = f"{FONT};paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round"
    return Markup('<text x="{:.1f}" y="{:.1f}" style="{}">{}</text>').format(x, y, style, text)


def document(frame: Frame, label: str, parts: Sequence[Markup]) -> Markup:
    """The whole chart with a name for those who do not see it."""
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        frame.width, math.ceil(frame.height), label
    )
    return head + Markup("").join(parts) + Markup("</svg>")
