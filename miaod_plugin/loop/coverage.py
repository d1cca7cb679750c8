"""A map of the photographs: where what is annotated and asked for lies among all."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from sklearn.decomposition import PCA

from ..data import read_image
from ..data.detection_data import DetectionData
from ..pages import svg
from ..pages.looks import COLOURS, short
from ..pages.pictures import Picture, thumbnail
from ..pages.svg import Frame
from ..ranking.patient import PatientDetector
from .asking import OnBroken, embedded
from .state import State

MOST_POINTS = 2000
FEWEST = 3  # photographs that make a map
LONGEST_TITLE = 60  # letters of a path
SIZES = {"wide": (720, 460, 16, 58), "narrow": (360, 360, 8, 46)}  # width, height, thumbnails, and their longer side
ANNOTATED, OPEN, HELD_OUT, ASIDE, POOL = KINDS = ("annotated", "open", "held out", "set aside", "to choose from")
_CIRCLE = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>')
_SQUARE = Markup('<path d="M{:.1f},{:.1f}m-{r},-{r}h{d}v{d}h-{d}z">{}</path>')
_CROSS = Markup('<path d="M{:.1f},{:.1f}m-{r},-{r}l{d},{d}m0,-{d}l-{d},{d}">{}</path>')
# Shape and colour of each kind, so that neither matters alone.
_STYLES = {
    ANNOTATED: f'fill="{COLOURS[0]}" stroke="#fff" stroke-width=".8"',
    OPEN: f'fill="#fff" stroke="{COLOURS[1]}" stroke-width="2.2"',
    HELD_OUT: f'fill="{COLOURS[2]}" stroke="#fff" stroke-width=".8"',
    ASIDE: 'fill="none" stroke="#1f2328" stroke-width="1.4"',
    POOL: 'fill="#8b949e" fill-opacity=".6"',
}


@dataclass(frozen=True)
class PoolMap:
    """A map in two widths.

    Attributes
    ----------
    drawings : dict of Markup
        By width.
    shown, of : Counter
        How many photographs of each kind are on it, and how many there are.
    explained : float
        The share of the embeddings' variance that the map shows.
    """

    drawings: dict[str, Markup]
    shown: Counter
    of: Counter
    explained: float


def _kinds(state: State) -> dict[str, str]:
    """Return how the map shows each photograph."""
    held_out, kinds = set(state.held_out), {}
    for path in state.photos.ids.tolist():
        standing = state.standing(path)
        if path in held_out:
            kinds[path] = HELD_OUT
        elif standing in (ANNOTATED, OPEN):
            kinds[path] = standing
        else:
            kinds[path] = POOL if state.may_be_asked(path) else ASIDE
    return kinds


def pool_map(state: State, detector: PatientDetector, seed: int, on_broken: OnBroken) -> PoolMap | None:
    """Return a map of at most 2,000 photographs by their embeddings' two principal components; None of too few."""
    kinds = _kinds(state)
    chosen = _sample(kinds, seed)
    if len(chosen) < FEWEST:
        return None
    photos, embeddings = embedded(detector, state.photos_of(chosen), on_broken)
    if len(photos) < FEWEST:
        return None
    projection = PCA(2, svd_solver="full")
    places = projection.fit_transform(embeddings.astype(np.float64))
    points = [kinds[path] for path in photos.ids.tolist()]
    drawings = {width: _draw(places, points, photos, width) for width in SIZES}
    explained = float(np.nan_to_num(projection.explained_variance_ratio_).sum())
    return PoolMap(drawings, Counter(points), Counter(kinds.values()), explained)


def _sample(kinds: dict[str, str], seed: int) -> list[str]:
    """Return all photographs or, of many, some drawn at random: up to half of them from outside the pool.

    Who is drawn depends on its own path alone, so that the map of a growing project changes little.
    """
    drawn = sorted(kinds, key=lambda path: hashlib.sha256(f"{seed} {path}".encode()).digest())
    pool = [path for path in drawn if kinds[path] == POOL]
    others = [path for path in drawn if kinds[path] != POOL]
    others = others[: max(MOST_POINTS // 2, MOST_POINTS - len(pool))]
    return sorted(others + pool[: MOST_POINTS - len(others)])


def _draw(places: np.ndarray, kinds: Sequence[str], photos: DetectionData, name: str) -> Markup:
    width, height, count, size = SIZES[name]
    margin = size // 2 + 4
    (left, low), (right, high) = places.min(axis=0), places.max(axis=0)
    frame = Frame(width, height, (left, right), (low, high), margin, margin, margin, margin)
    pixels = np.array([(frame.x(x), frame.y(y)) for x, y in places])
    paths = photos.ids.tolist()
    parts = []
    for number, kind in reversed(list(enumerate(KINDS))):  # the pool beneath all others
        rows = [row for row, one in enumerate(kinds) if one == kind]
        titles = [f"{short(paths[row], LONGEST_TITLE)}, {kind}" if name == "wide" else "" for row in rows]
        marks = [mark(kind, *pixels[row], title) for row, title in zip(rows, titles, strict=True)]
        parts.append(_group(number, kind, marks))
    for row in _spread_out(pixels, count, size):
        picture = thumbnail(paths[row], read_image(photos.X[row]), size)
        parts.append(_placed(picture, *pixels[row], kinds[row]))
    return svg.document(frame, "Map of the photographs", parts)


def mark(kind: str, x: float, y: float, title: str = "") -> Markup:
    """Return the mark of a photograph of some kind, in the style of its group."""
    inside = Markup("<title>{}</title>").format(title) if title else ""
    if kind == HELD_OUT:
        return _SQUARE.format(x, y, inside, r=3.5, d=7)
    if kind == ASIDE:
        return _CROSS.format(x, y, inside, r=3, d=6)
    return _CIRCLE.format(x, y, 2 if kind == POOL else 4, inside)


def key(kind: str) -> Markup:
    """Return the mark of a kind for a legend."""
    shape = Markup('<svg class="swatch" viewBox="0 0 14 14" width="14" height="14" aria-hidden="true">{}</svg>')
    return shape.format(_group(KINDS.index(kind), kind, [mark(kind, 7, 7)]))


def _group(number: int, kind: str, marks: Sequence[Markup]) -> Markup:
    return Markup('<g data-arm="{}" {}>{}</g>').format(number, Markup(_STYLES[kind]), Markup("").join(marks))


def _spread_out(pixels: np.ndarray, count: int, size: int) -> list[int]:
    """Return rows of places far apart, each the farthest from those before, whose pictures do not touch."""
    nearest = np.linalg.norm(pixels - pixels.mean(axis=0), axis=1)
    chosen: list[int] = []
    while len(chosen) < count:
        free = np.ones(len(pixels), dtype=bool)
        for row in chosen:
            free &= np.abs(pixels - pixels[row]).max(axis=1) > size + 4
        if not free.any():
            break
        chosen.append(int(np.where(free, nearest, -1.0).argmax()))
        distances = np.linalg.norm(pixels - pixels[chosen[-1]], axis=1)
        nearest = distances if len(chosen) == 1 else np.minimum(nearest, distances)
    return chosen


def _placed(picture: Picture, x: float, y: float, kind: str) -> Markup:
    """Return a thumbnail whose middle is its photograph's place, with the place's mark at its corner."""
    left, top = x - picture.width / 2, y - picture.height / 2
    shape = Markup(
        '<g class="thumbnail"><title>{}</title><image href="{}" x="{x:.1f}" y="{y:.1f}" width="{w}" height="{h}"/>'
        '<rect x="{x:.1f}" y="{y:.1f}" width="{w}" height="{h}" fill="none" stroke="#fff" stroke-width="2"/>{}</g>'
    )
    title = f"{short(picture.id, LONGEST_TITLE)}, {kind}"
    at_corner = _group(KINDS.index(kind), kind, [mark(kind, left, top)])
    return shape.format(title, picture.uri, at_corner, x=left, y=top, w=picture.width, h=picture.height)
