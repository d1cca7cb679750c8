"""Charts as inline SVG, with colours and marks that do not rely on each other.

Every text goes through `Markup.format`, which escapes it. Metrics are fractions in 0..1 and are drawn in percent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from . import svg
from .looks import LONGEST_LABEL, apart, colour_of
from .svg import CHARACTER, INK, RULE, Frame


@dataclass(frozen=True)
class Point:
    """A mean with the bar around it, an interval or a range (if there is one), and the seeds' own (x, y)."""

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
class Mark:
    """A number on an arm's curve, with the text that shows when the pointer rests on it."""

    look: int
    x: float
    y: float
    number: int
    title: str


def learning_curves(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float] | None,
    full: float | None,
    published: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    width: int,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Mean curves with names at their ends, seeds as dots and bars, beside full supervision and published curves."""
    points = [point for one in series for point in one.points]
    known = [xy for _, curve in published for xy in curve]
    xs = [x for point in points for x in (point.x, *(x for x, _ in point.seeds))] + [x for x, _ in known]
    ys = [y for point in points for y in (point.mean, *(y for _, y in point.seeds))] + [y for _, y in known]
    y_range, y_ticks = _axis(ys + [full] * (full is not None), points, 0.0, 1.0)
    low, high = min(xs), max(xs)
    pad = (high - low or 1) * 0.04
    labelled = [one for one in series if one.points and len(one.name) <= LONGEST_LABEL] if width > 500 else []
    right = 30 + math.ceil(CHARACTER * max(len(one.name) for one in labelled)) if labelled else 14
    frame = Frame(width, 400 if width > 500 else 330, (low - pad, high + pad), y_range, right=right)
    parts = [_axes(frame, x_label, y_label, _amounts(frame, x_ticks, low, high), y_ticks)]
    if full is not None:
        parts.append(_level(frame, full, f"full supervision {100 * full:.1f}"))
    parts += [_published(frame, label, curve) for label, curve in published]
    parts += [_curve(frame, one, _dodge(one.look, len(series), 5)) for one in series]
    parts += [_mark(frame, mark) for mark in marks]
    parts += _end_labels(frame, labelled)
    return svg.document(frame, f"{y_label} against {x_label}", parts)


def _amounts(frame: Frame, wanted: Sequence[float] | None, low: float, high: float) -> list[tuple[float, str]]:
    """Return ticks for amounts of labels: the wanted ones if they are few, without those that would touch others."""
    most = 8 if frame.width > 500 else 5
    if not wanted or len(wanted) > most:
        wanted = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=True).tick_values(low, high)
        wanted = [x for x in wanted if low <= x <= high] or [low]
    ticks, end = [], -math.inf
    for x in wanted:
        label = f"{x:,.0f}"
        half = CHARACTER * len(label) / 2
        if frame.x(x) - half > end:
            ticks.append((x, label))
            end = frame.x(x) + half + 6
    return ticks


def differences(
    series: Sequence[Series], groups: Sequence[str], reference: str, y_label: str, x_label: str, width: int
) -> Markup:
    """Mean paired difference of each arm to the reference with bar and seeds; x of the points is the group's number."""
    points = [point for one in series for point in one.points]
    values = [value for point in points for value in (point.mean, *(y for _, y in point.seeds))]
    y_range, y_ticks = _axis([0.0, *values], points, -1.0, 1.0, signed=True)
    frame = Frame(width, 340 if width > 500 else 300, (-0.5, len(groups) - 0.5), y_range, left=46)
    every = math.ceil(len(groups) * 54 / width)
    labels = [(n, label) for n, label in enumerate(groups) if (len(groups) - 1 - n) % every == 0]
    zero = Markup('<line x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}" stroke="{}" stroke-width="1.2"/>').format(
        frame.left, frame.width - frame.right, INK, y=frame.y(0)
    )
    divider = (frame.x(len(groups) - 2) + frame.x(len(groups) - 1)) / 2 if len(groups) > 1 else None
    parts = [_axes(frame, x_label, y_label, labels, y_ticks, signed=True), zero]
    if divider is not None and groups[-1] == "AULC":
        parts.append(svg.line(divider, frame.top, divider, frame.height - frame.bottom, RULE))
    step = min(14, 0.7 * (frame.x(1) - frame.x(0)) / max(1, len(series)))
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * step
        marks = [_interval(frame, p, frame.x(p.x) + shift, one.look, 2) for p in one.points]
        marks += [svg.dot(frame.x(p.x) + shift, frame.y(y), one.look) for p in one.points for _, y in _several(p.seeds)]
        marks += [svg.marker(frame.x(p.x) + shift, frame.y(p.mean), one.look, p.title) for p in one.points]
        parts.append(svg.arm(one.look, marks))
    return svg.document(frame, f"Difference to {reference}", parts)


def bars(series: Sequence[Series], x_label: str, width: int) -> Markup:
    """One horizontal bar for each arm, from 0 to its mean, with its spread and seeds; the points' x is not used."""
    points = [point for one in series for point in one.points]
    tops = [y for point in points for y in (point.mean, *(y for _, y in point.seeds))]
    (_, high), ticks = _axis([0.0, *tops], points, 0.0, 1.0)
    row, top = 46, 8
    frame = Frame(width, top + row * len(series) + 44, (0.0, high), (0.0, 1.0), left=4, right=18, top=top)
    base = frame.height - frame.bottom
    parts = [svg.line(frame.x(t), top, frame.x(t), base, RULE) for t in ticks if t <= high]
    parts += [svg.text(frame.x(t), base + 16, f"{100 * t:g}", "middle" if t else "start") for t in ticks if t <= high]
    parts.append(svg.text(width - frame.right, base + 36, x_label, "end"))
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
                lines = [svg.line(x0, y + 0.5, x1, y + 0.5, INK, 1.4)] + [
                    svg.line(x, y - 4, x, y + 5, INK, 1.4) for x in ends
                ]
                marks.append(Markup('<g class="interval">{}</g>').format(Markup("").join(lines)))
            dot = Markup('<circle cx="{:.1f}" cy="{}" r="2.6" fill="#fff" stroke="{}" stroke-width="1"/>')
            marks += [dot.format(frame.x(value), y + 0.5, INK) for _, value in point.seeds]
            name = Markup(
                '<text x="{}" y="{}" style="font-size:12.5px;fill:{}">{}'
                '<tspan dx="8" style="font-weight:600">{}</tspan></text>'
            )
            marks.append(name.format(frame.left, y - 12, INK, one.name, f"{100 * point.mean:.1f}"))
            parts.append(svg.arm(one.look, marks))
    return svg.document(frame, x_label, parts)


def swatch(look: int) -> Markup:
    """A piece of an arm's line with its marker, for a legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 34 14" width="34" height="14" aria-hidden="true">{}{}</svg>'
    ).format(svg.path([(1, 7), (33, 7)], look), svg.marker(17, 7, look))


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
    parts = [svg.text(2, 14, y_label, "start"), svg.text(right, frame.height - 6, x_label, "end")]
    for tick in y_ticks:
        parts.append(svg.line(frame.left, frame.y(tick), right, frame.y(tick), RULE))
        text = f"{100 * tick:+g}" if signed and tick else f"{100 * tick:g}"
        parts.append(svg.text(frame.left - 7, frame.y(tick) + 4, text.replace("-", "\N{MINUS SIGN}"), "end"))
    parts.append(svg.line(frame.left, base, right, base, "#8b949e"))
    for value, label in x_ticks:
        parts.append(svg.text(frame.x(value), base + 18, label, "middle"))
        if not signed:
            parts.append(svg.line(frame.x(value), base, frame.x(value), base + 4, "#8b949e"))
    return Markup("").join(parts)


def _curve(frame: Frame, series: Series, shift: float) -> Markup:
    marks = [_interval(frame, point, frame.x(point.x) + shift, series.look, 1.4) for point in series.points]
    marks += [svg.dot(frame.x(x), frame.y(y), series.look) for p in series.points for x, y in _several(p.seeds)]
    marks.append(svg.path([(frame.x(point.x), frame.y(point.mean)) for point in series.points], series.look))
    marks += [svg.marker(frame.x(point.x), frame.y(point.mean), series.look, point.title) for point in series.points]
    return svg.arm(series.look, marks)


def _end_labels(frame: Frame, series: Sequence[Series]) -> list[Markup]:
    """Names beside the ends of the curves, moved apart; none where they do not fit."""
    ends = [frame.y(one.points[-1].mean) for one in series]
    x = frame.width - frame.right + 10
    return [
        svg.arm(one.look, [svg.marker(x, y, one.look), svg.text(x + 9, y + 4, one.name, "start")])
        for one, y in zip(series, apart(ends, 15, frame.top, frame.height - frame.bottom) or [], strict=False)
    ]


def _interval(frame: Frame, point: Point, x: float, look: int, width: float) -> Markup:
    """A vertical bar from low to high; an end beyond the frame has no cap."""
    if point.low is None or point.high is None:
        return Markup("")
    low, high = frame.y_range
    colour = colour_of(look)
    parts = [svg.line(x, frame.y(point.low), x, frame.y(point.high), colour, width)]
    caps = [frame.y(value) for value in (point.low, point.high) if low <= value <= high]
    parts += [svg.line(x - 3.5, y, x + 3.5, y, colour, width) for y in caps]
    return Markup('<g class="interval" opacity=".6">{}</g>').format(Markup("").join(parts))


def _level(frame: Frame, value: float, label: str) -> Markup:
    y = frame.y(value)
    line = Markup(
        '<line x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}" stroke="{}" stroke-dasharray="2 4" stroke-width="1.3"/>'
    )
    return line.format(frame.left, frame.width - frame.right, INK, y=y) + svg.halo(frame.left + 4, y - 6, label)


def _published(frame: Frame, label: str, curve: Sequence[tuple[float, float]]) -> Markup:
    places = [(frame.x(x), frame.y(y)) for x, y in curve]
    line = Markup('<path d="{}" fill="none" stroke="#8b949e" stroke-width="1.4"/>').format(svg.moves(places))
    dot = Markup(
        '<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="#fff" stroke="#8b949e">'
        "<title>{}: {:,.0f} images, {:.2f} %</title></circle>"
    )
    dots = [dot.format(*place, label, x, 100 * y) for place, (x, y) in zip(places, curve, strict=True)]
    return line + Markup("").join(dots)


def _mark(frame: Frame, mark: Mark) -> Markup:
    """A number in a circle of the arm's colour, above the curve's place."""
    shape = Markup(
        '<g transform="translate({:.1f},{:.1f})"><circle r="7.5" fill="#fff" stroke="{}" stroke-width="1.6"/>'
        '<text y="3.8" text-anchor="middle" style="font-size:10.5px;font-weight:600;fill:{}">{}</text>'
        "<title>{}</title></g>"
    )
    place = frame.x(mark.x), max(frame.y(mark.y) - 16, 9.0)
    return svg.arm(mark.look, [shape.format(*place, colour_of(mark.look), INK, mark.number, mark.title)])


def _several(seeds: Sequence) -> Sequence:
    """The seeds, unless there is but one, which is the mean."""
    return seeds if len(seeds) > 1 else ()


def _dodge(look: int, count: int, step: float) -> float:
    """Move bars of arms at the same place apart."""
    return (look - (count - 1) / 2) * min(step, 24 / max(count, 1))
