"""What each round asked for, as pictures with their boxes, and why."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from ..data import read_image
from ..drawing import COLOURS
from ..errors import DataError
from ..estimator import ObjectDetector
from ..mil.heatmaps import miaod_maps
from ..mil.training import MIAOD
from ..pages.looks import short
from ..pages.pictures import Box, Picture, heat_picture, heat_scale, photograph
from ..ranking.found import FOUND, to_found
from .asking import OnBroken
from .rounds import MEASURES, Asked, Round
from .settings import Settings
from .state import State

NEWEST, OLDER = 24, 8  # pictures of the newest round, and of each one before
MOST_BYTES = 1_900_000  # of all these pictures as a page has them; older rounds go without
MOST_BOXES, BOX_BYTES = 40, 300  # on a picture, and what one takes
MOST_LABELS = 8  # more would hide the picture; colours tell classes, too
HEATMAPS = 4
YELLOW = "#F0E442"
LONGEST_NAME = 32  # letters of a photograph's name that are shown

Guess = tuple[np.ndarray, list[str], list[float]]  # boxes, their classes and scores


@dataclass(frozen=True)
class Shown:
    """A photograph that was asked for, and in words why; its picture is None where it is gone or cannot be read."""

    path: str
    picture: Picture | None
    caption: str


@dataclass(frozen=True)
class Chapter:
    """A round: how many it asked for by reason, and the first of them."""

    number: int
    reasons: Counter
    shown: list[Shown]

    @property
    def left_out(self) -> int:
        return self.reasons.total() - len(self.shown)


@dataclass(frozen=True)
class Heats:
    """Pictures and, of each, a map of where MI-AOD's classifiers disagree, all on one scale."""

    scale: Picture
    pairs: list[tuple[Picture, Picture]]


def chapters(
    state: State, settings: Settings, model: ObjectDetector | None, colours: dict[str, str], on_broken: OnBroken
) -> list[Chapter]:
    """Return what the rounds asked for, the newest first, with boxes of annotators and else of a model.

    `colours` are those of boxes by class; a class that has none is in the page's own.
    """
    rounds = [(round_, asked) for round_ in reversed(state.rounds) if (asked := round_.asked())]
    first = [asked[: OLDER if number else NEWEST] for number, (_, asked) in enumerate(rounds)]
    guesses = _guesses(state, settings, model, [one for asked in first for one in asked])
    room, made = MOST_BYTES, []
    for (round_, asked), wanted in zip(rounds, first, strict=True):
        shown = []
        for rank, one in enumerate(wanted, start=1):
            if room <= 0:
                break
            shown.append(_shown(rank, one, state, guesses.get(one.path), colours, on_broken))
            room -= _bytes(shown[-1].picture)
        made.append(_chapter(round_, asked, shown))
    return made


def colours_of(classes: Iterable[str]) -> dict[str, str]:
    """Return the colours of boxes of the first classes; all others share the page's own, a yellow."""
    return dict(zip(classes, (colour for colour in COLOURS if colour != YELLOW), strict=False))


def _chapter(round_: Round, asked: list[Asked], shown: list[Shown]) -> Chapter:
    reasons = (one.why if one.model is None else f"{one.why}, model of round {one.model}" for one in asked)
    return Chapter(round_.number, Counter(reasons), shown)


def _guesses(
    state: State, settings: Settings, model: ObjectDetector | None, asked: Iterable[Asked]
) -> dict[str, Guess]:
    """Return what a model finds in photographs that nobody has annotated, and that do not measure it."""
    paths = list(dict.fromkeys(one.path for one in asked if one.why != MEASURES and state.standing(one.path) == "open"))
    if model is None or not paths:
        return {}
    photos, classes, guesses = state.photos_of(paths), model.classes_.tolist(), {}
    for rows, outputs in model.map_batches(photos.X, FOUND, lambda row, error: None):  # told when they are drawn
        for image in to_found(photos.ids[rows], outputs):
            best = image.above(settings.suggest_from)
            names = [classes[label] for label in best.labels[:MOST_BOXES]]
            guesses[image.path] = best.boxes[:MOST_BOXES], names, best.scores[:MOST_BOXES].tolist()
    return guesses


def _shown(
    rank: int, one: Asked, state: State, guess: Guess | None, colours: dict[str, str], on_broken: OnBroken
) -> Shown:
    standing = state.standing(one.path)
    utility = "" if one.utility is None else f" {one.utility:.3g}"
    name = short(PurePosixPath(one.path).name, LONGEST_NAME)
    caption = f"{rank}. {name}: {one.why}{utility}, {standing}"
    if standing == "gone":
        return Shown(one.path, None, caption)
    file = state.photos_of([one.path]).X[0]
    try:
        image = read_image(file)
    except DataError as error:
        on_broken({str(file): error})
        return Shown(one.path, None, f"{caption}, cannot be read")
    if guess is None:
        drawn = state.answers[one.path].boxes[:MOST_BOXES] if one.path in state.answers else []
        corners, names = np.array([box.corners for box in drawn]).reshape(-1, 4), [box.name for box in drawn]
        scores = [None] * len(drawn)
    else:
        corners, names, scores = guess
    picture = photograph(one.path, image, corners, names, scores, caption, guessed=guess is not None)
    return Shown(one.path, replace(picture, boxes=_coloured(picture.boxes, names, colours)), caption)


def _coloured(boxes: list[Box], names: list[str], colours: dict[str, str]) -> list[Box]:
    """Return boxes in the colours of their classes, with labels only where these leave the picture to be seen."""
    few = len(boxes) <= MOST_LABELS
    return [
        replace(box, colour=colours.get(name, ""), place=box.place if few else None)
        for box, name in zip(boxes, names, strict=True)
    ]


def _bytes(picture: Picture | None) -> int:
    return 0 if picture is None else len(picture.uri) + BOX_BYTES * len(picture.boxes)


def heats(chapter: Chapter, state: State, model: ObjectDetector | None) -> Heats | None:
    """Return maps of the first photographs of a round that a strategy picked; None where the model is not MI-AOD's."""
    held_out = set(state.held_out)
    picked = [one for one in chapter.shown if one.picture is not None and one.path not in held_out][:HEATMAPS]
    if model is None or not isinstance(model.training_, MIAOD) or not picked:
        return None
    files = state.photos_of(one.path for one in picked).X
    options = model.training_.options_
    reducers = {"maps": lambda outputs: [maps["discrepancy"] for maps in miaod_maps(outputs, options)]}
    maps = model.map_pool(files, reducers)["maps"]
    top = max(float(heat.max()) for heat in maps)
    pairs = [
        (one.picture, heat_picture(f"{one.path}, uncertainty", read_image(file), heat, top))
        for one, file, heat in zip(picked, files, maps, strict=True)
    ]
    return Heats(heat_scale(top), pairs)
