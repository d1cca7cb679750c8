"""Charts as inline SVG: no script, no style sheet of their own, colours and marks that do not rely on each other.

Every text goes through `Markup.format`, which escapes it. Metrics are fractions in 0..1 and are drawn in percent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from miaod_plugin.experiments.looks import DASHES, SHAPES, colour_of, mark_of

INK, MUTED, RULE = "#1f2328", "#59636e", "#e4e7eb"
FONT = "font-size:12px;fill:" + MUTED


@dataclass(frozen=True)
class Point:
    """A mean with its interval (if there is one) and the seeds' own (x, y)."""

    x: float
    mean: float
    low: float | None = None
    high: float | None = None
    seeds: Sequence[tuple[float, float]] = ()
    title: str = ""


@dataclass(frozen=True)
class Series:
    """One arm's points; `look` is the number of its colour, dash and marker."""

    name: str
    look: int
    points: Sequence[Point]


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


def learning_curves(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float] | None,
    full: float | None,
    published: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    width: int,
) -> Markup:
    """Mean curves with seeds as dots and 95 % intervals as bars, beside full supervision and published curves."""
    points = [point for one in series for point in one.points]
    known = [xy for _, curve in published for xy in curve]
    xs = [x for point in points for x in (point.x, *(x for x, _ in point.seeds))] + [x for x, _ in known]
    ys = [y for point in points for y in (point.mean, *(y for _, y in point.seeds))] + [y for _, y in known]
    y_range, y_ticks = _axis(ys + [full] * (full is not None), points, 0.0, 1.0)
    low, high = min(xs), max(xs)
    pad = (high - low or 1) * 0.04
    frame = Frame(width, 400 if width > 500 else 330, (low - pad, high + pad), y_range)
    if x_ticks is None or (len(x_ticks) > 8 and width > 500) or (len(x_ticks) > 5 and width <= 500):
        x_ticks = [
            x
            for x in MaxNLocator(8 if width > 500 else 4, steps=[1, 2, 2.5, 5, 10], integer=True).tick_values(low, high)
            if low <= x <= high
        ]
    parts = [_axes(frame, x_label, y_label, [(x, f"{x:,.0f}") for x in x_ticks], y_ticks)]
    if full is not None:
        parts.append(_level(frame, full, f"full supervision {100 * full:.1f}"))
    parts += [_published(frame, label, curve) for label, curve in published]
    parts += [_curve(frame, one, _dodge(one.look, len(series), 5)) for one in series]
    return _svg(frame, f"{y_label} against {x_label}", parts)


def differences(
    series: Sequence[Series], groups: Sequence[str], reference: str, y_label: str, x_label: str, width: int
) -> Markup:
    """Mean paired difference of each arm to the reference with its interval; x of the points is the group's number."""
    points = [point for one in series for point in one.points]
    y_range, y_ticks = _axis([0.0] + [point.mean for point in points], points, -1.0, 1.0, signed=True)
    frame = Frame(width, 340 if width > 500 else 300, (-0.5, len(groups) - 0.5), y_range, left=46)
    every = math.ceil(len(groups) * 54 / width)
    labels = [(n, label) for n, label in enumerate(groups) if (len(groups) - 1 - n) % every == 0]
    zero = Markup('<line x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}" stroke="{}" stroke-width="1.2"/>').format(
        frame.left, frame.width - frame.right, INK, y=frame.y(0)
    )
    divider = (frame.x(len(groups) - 2) + frame.x(len(groups) - 1)) / 2 if len(groups) > 1 else None
    parts = [_axes(frame, x_label, y_label, labels, y_ticks, signed=True), zero]
    if divider is not None and groups[-1] == "AULC":
        parts.append(_line(divider, frame.top, divider, frame.height - frame.bottom, RULE))
    step = min(14, 0.7 * (frame.x(1) - frame.x(0)) / max(1, len(series)))
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * step
        marks = [_interval(frame, p, frame.x(p.x) + shift, one.look, 2) for p in one.points]
        marks += [_marker(frame.x(p.x) + shift, frame.y(p.mean), one.look, p.title) for p in one.points]
        parts.append(_arm(one.look, marks))
    return _svg(frame, f"Difference to {reference}", parts)


def bars(series: Sequence[Series], x_label: str, width: int) -> Markup:
    """One horizontal bar for each arm, from 0 to its mean, with interval and seeds; the points' x is not used."""
    points = [point for one in series for point in one.points]
    tops = [y for point in points for y in (point.mean, *(y for _, y in point.seeds))]
    (_, high), ticks = _axis([0.0, *tops], points, 0.0, 1.0)
    row, top = 46, 8
    frame = Frame(width, top + row * len(series) + 44, (0.0, high), (0.0, 1.0), left=4, right=18, top=top)
    base = frame.height - frame.bottom
    parts = [_line(frame.x(t), top, frame.x(t), base, RULE) for t in ticks if t <= high]
    parts += [_text(frame.x(t), base + 16, f"{100 * t:g}", "middle" if t else "start") for t in ticks if t <= high]
    parts.append(_text(width - frame.right, base + 36, x_label, "end"))
    for number, one in enumerate(series):
        y = top + row * number + 28
        for point in one.points:
            rect = Markup(
                '<rect x="{}" y="{}" width="{:.1f}" height="13" fill="{}" fill-opacity=".82"><title>{}</title></rect>'
            )
            marks = [rect.format(frame.left, y - 6, frame.x(point.mean) - frame.left, colour_of(one.look), point.title)]
            if point.low is not None:
                x0, x1 = (frame.x(min(max(value, 0.0), high)) for value in (point.low, point.high))
                ends = [x for x, value in ((x0, point.low), (x1, point.high)) if 0 <= value <= high]
                lines = [_line(x0, y + 0.5, x1, y + 0.5, INK, 1.4)] + [
                    _line(x, y - 4, x, y + 5, INK, 1.4) for x in ends
                ]
                marks.append(Markup('<g class="interval">{}</g>').format(Markup("").join(lines)))
            dot = Markup('<circle cx="{:.1f}" cy="{}" r="2.6" fill="#fff" stroke="{}" stroke-width="1"/>')
            marks += [dot.format(frame.x(value), y + 0.5, INK) for _, value in point.seeds]
            name = Markup(
                '<text x="{}" y="{}" style="font-size:12.5px;fill:{}">{}'
                '<tspan dx="8" style="font-weight:600">{}</tspan></text>'
            )
            marks.append(name.format(frame.left, y - 12, INK, one.name, f"{100 * point.mean:.1f}"))
            parts.append(_arm(one.look, marks))
    return _svg(frame, x_label, parts)


def swatch(look: int) -> Markup:
    """A piece of an arm's line with its marker, for a legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 34 14" width="34" height="14" aria-hidden="true">{}{}</svg>'
    ).format(_path([(1, 7), (33, 7)], look), _marker(17, 7, look))


def _axis(values, points: Sequence[Point], least: float, most: float, signed: bool = False):
    """Return the range and ticks that show all values, and of the intervals what fits in about twice that range."""
    low, high = min(values), max(values)
    reach = max(high - low, 0.02) * (0.8 if signed else 0.45)
    lows = [point.low for point in points if point.low is not None]
    highs = [point.high for point in points if point.high is not None]
    low_end, high_end = max(min([low, *lows]), low - reach), min(max([high, *highs]), high + reach)
    pad = max(high_end - low_end, 0.02) * 0.04
    low_end, high_end = max(low_end - pad, least), min(high_end + pad, most)
    if not signed and low_end < 0.3 * high_end:
        low_end = 0.0
    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(100 * low_end, 100 * high_end) / 100
    inside = [float(t) for t in ticks if low_end - 1e-9 <= t <= high_end + 1e-9]
    return (low_end, high_end), inside


def _axes(frame: Frame, x_label: str, y_label: str, x_ticks, y_ticks, signed: bool = False) -> Markup:
    base, right = frame.height - frame.bottom, frame.width - frame.right
    parts = [_text(2, 14, y_label, "start"), _text(right, frame.height - 6, x_label, "end")]
    for tick in y_ticks:
        parts.append(_line(frame.left, frame.y(tick), right, frame.y(tick), RULE))
        text = f"{100 * tick:+g}" if signed and tick else f"{100 * tick:g}"
        parts.append(_text(frame.left - 7, frame.y(tick) + 4, text.replace("-", "\N{MINUS SIGN}"), "end"))
    parts.append(_line(frame.left, base, right, base, "#8b949e"))
    for value, label in x_ticks:
        parts.append(_text(frame.x(value), base + 18, label, "middle"))
        if not signed:
            parts.append(_line(frame.x(value), base, frame.x(value), base + 4, "#8b949e"))
    return Markup("").join(parts)


def _curve(frame: Frame, series: Series, shift: float) -> Markup:
    colour = colour_of(series.look)
    marks = [_interval(frame, point, frame.x(point.x) + shift, series.look, 1.4) for point in series.points]
    dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.2" fill="{}" fill-opacity=".5"/>')
    marks += [dot.format(frame.x(x), frame.y(y), colour) for p in series.points for x, y in p.seeds if len(p.seeds) > 1]
    marks.append(_path([(frame.x(point.x), frame.y(point.mean)) for point in series.points], series.look))
    marks += [_marker(frame.x(point.x), frame.y(point.mean), series.look, point.title) for point in series.points]
    return _arm(series.look, marks)


def _interval(frame: Frame, point: Point, x: float, look: int, width: float) -> Markup:
    """A vertical bar from low to high; an end beyond the frame has no cap."""
    if point.low is None or point.high is None:
        return Markup("")
    low, high = frame.y_range
    colour = colour_of(look)
    parts = [_line(x, frame.y(point.low), x, frame.y(point.high), colour, width)]
    caps = [frame.y(value) for value in (point.low, point.high) if low <= value <= high]
    parts += [_line(x - 3.5, y, x + 3.5, y, colour, width) for y in caps]
    return Markup('<g class="interval" opacity=".6">{}</g>').format(Markup("").join(parts))


def _level(frame: Frame, value: float, label: str) -> Markup:
    y = frame.y(value)
    line = Markup(
        '<line x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}" stroke="{}" stroke-dasharray="2 4" stroke-width="1.3"/>'
    )
    return line.format(frame.left, frame.width - frame.right, INK, y=y) + _halo(frame.left + 4, y - 6, label)


def _published(frame: Frame, label: str, curve: Sequence[tuple[float, float]]) -> Markup:
    places = [(frame.x(x), frame.y(y)) for x, y in curve]
    line = Markup('<path d="{}" fill="none" stroke="#8b949e" stroke-width="1.4"/>').format(_moves(places))
    dot = Markup(
        '<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="#fff" stroke="#8b949e">'
        "<title>{}: {:,.0f} images, {:.2f} %</title></circle>"
    )
    dots = [dot.format(*place, label, x, 100 * y) for place, (x, y) in zip(places, curve, strict=True)]
    return line + Markup("").join(dots)


def _path(places: Sequence[tuple[float, float]], look: int) -> Markup:
    path = Markup(
        '<path d="{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" stroke-dasharray="{}"/>'
    )
    return path.format(_moves(places), colour_of(look), DASHES[mark_of(look)])


def _moves(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _marker(x: float, y: float, look: int, title: str = "") -> Markup:
    shape = Markup(
        '<path d="{}" transform="translate({:.1f},{:.1f}) scale(4.6)" fill="{}" stroke="#fff" stroke-width=".22">'
        "{}</path>"
    )
    inside = Markup("<title>{}</title>").format(title) if title else ""
    return shape.format(SHAPES[mark_of(look)], x, y, colour_of(look), inside)


def _dodge(look: int, count: int, step: float) -> float:
    """Move bars of arms at the same place apart."""
    return (look - (count - 1) / 2) * min(step, 24 / max(count, 1))


def _arm(look: int, marks: Sequence[Markup]) -> Markup:
    return Markup('<g data-arm="{}">{}</g>').format(look, Markup("").join(marks))


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1) -> Markup:
    line = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}"/>')
    return line.format(x0, y0, x1, y1, colour, width)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" style="{}">{}</text>').format(x, y, anchor, FONT, text)


def _halo(x: float, y: float, text: str) -> Markup:
    """Text that stays readable over lines."""
    style = f"{FONT};paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round"
    return Markup('<text x="{:.1f}" y="{:.1f}" style="{}">{}</text>').format(x, y, style, text)


def _svg(frame: Frame, label: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        frame.width, math.ceil(frame.height), label
    )
    return head + Markup("").join(parts) + Markup("</svg>")
