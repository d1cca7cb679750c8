"""How far a project is: what is annotated, what is left, and how good each round's model is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .. import stopping
from ..data.detection_data import make_targets
from ..metrics import voc_average_precision
from .rounds import Detection, Round
from .settings import Settings
from .state import State

NEXT = 100  # photographs, to look ahead


@dataclass(frozen=True)
class Measured:
    """The model of a round.

    Attributes
    ----------
    round : int
    images, boxes : int
        What it was trained on.
    held_out : int
        How many annotated photographs it was measured on.
    ap : float or None
        Mean AP at IoU 0.5 in 0..1, the area under the curve; ``None`` where there is nothing to measure on.
    per_class : dict of float
        That of each class that has boxes there.
    found : dict of dict
        Its detections in held-out photographs that are there, annotated or not, by path.
    """

    round: int
    images: int
    boxes: int
    held_out: int
    ap: float | None
    per_class: dict[str, float]
    found: dict[str, dict]


@dataclass(frozen=True)
class Outlook:
    """What annotating more is expected to bring and to cost.

    Attributes
    ----------
    images : int
        How many more; no more than there are to choose from.
    gain : Expected or None
        Of AP, by the learning curve; None before it has three rounds of more and more photographs.
    hours : float
        By the boxes that an annotated photograph has on average.
    """

    images: int
    gain: stopping.Expected | None
    hours: float


@dataclass(frozen=True)
class Status:
    """Counts of photographs, see `State`, and the curve.

    Attributes
    ----------
    photos, annotated, unusable, skipped, open, pool : int
        All there are; those with an answer of each kind; those that were asked for without an answer since; those that
        the next round chooses from.
    held_out, held_out_annotated : int
        Of those that are there.
    gone : list of str
        Photographs that were asked for or annotated, and are not in the folder any more.
    boxes : Counter
        Boxes by class, the held-out photographs' included.
    new : int
        Annotated photographs that the newest model was not trained on.
    curve : list of Measured
        All models are measured on what is annotated of the held-out photographs now, so that rounds compare.
    hours : float
        That annotating has taken, by the settings' `annotation_time`.
    outlook : Outlook or None
        None before anything is annotated, or where there is nothing left to choose from.
    reasons : list of str
        Why to stop, by the settings' rules; none while it pays to go on.
    """

    photos: int
    annotated: int
    unusable: int
    skipped: int
    open: int
    pool: int
    held_out: int
    held_out_annotated: int
    gone: list[str]
    boxes: Counter
    new: int
    curve: list[Measured]
    hours: float
    outlook: Outlook | None
    reasons: list[str]


def status_of(state: State, settings: Settings) -> Status:
    """Return the status of a project in this state."""
    curve = [one for one in (_measured(round_, state, settings.classes) for round_ in state.rounds) if one is not None]
    rounds = _as_stopping_rules_see_them(curve, state, settings)
    annotated, boxes = state.count("annotated"), state.boxes_by_class()
    return Status(
        photos=len(state.photos),
        annotated=annotated,
        unusable=state.count("unusable"),
        skipped=state.count("skipped"),
        open=len(state.open_photos),
        pool=len(state.pool),
        held_out=len(state.there & set(state.held_out)),
        held_out_annotated=len(state.held_out_annotated),
        gone=state.gone,
        boxes=boxes,
        new=max(0, len(state.annotated) - (curve[-1].images if curve else 0)),
        curve=curve,
        hours=settings.annotation_time.hours(annotated, boxes.total()),
        outlook=_outlook(rounds, min(NEXT, len(state.pool)), boxes.total() / annotated, settings)
        if annotated
        else None,
        reasons=[reason for rule in settings.stopping if (reason := rule.make().reason(rounds)) is not None],
    )


def _as_stopping_rules_see_them(curve: Sequence[Measured], state: State, settings: Settings) -> list[stopping.Round]:
    """Return the rounds with a model; each has cost what it was trained on, and what is annotated to measure it."""
    measures = sum(len(state.answers[path].boxes) for path in state.held_out_annotated)
    agreements = [None, *(_agreement(later.found, one.found) for one, later in pairwise(curve))]
    return [
        stopping.Round(
            images=one.images,
            cost=settings.annotation_time.hours(one.images + one.held_out, one.boxes + measures),
            score=one.ap,
            agreement=agreement,
            uncertainty=stopping.uncertainty(list(one.found.values())),
        )
        for one, agreement in zip(curve, agreements, strict=False)
    ]


def _agreement(found: dict[str, dict], others: dict[str, dict]) -> float | None:
    """Return how far two models agree on the photographs that both have looked at."""
    both = sorted(found.keys() & others.keys())
    return stopping.agreement([found[path] for path in both], [others[path] for path in both])


def _outlook(rounds: Sequence[stopping.Round], images: int, boxes_each: float, settings: Settings) -> Outlook | None:
    if not images:
        return None
    curve = stopping.LearningCurve.of(rounds)
    return Outlook(
        images,
        None if curve is None else curve.gain(images),
        settings.annotation_time.hours(images, boxes_each * images),
    )


def _measured(round_: Round, state: State, classes: list[str]) -> Measured | None:
    trained, found = round_.trained(), round_.held_out() or {}
    if trained is None:
        return None
    paths = [path for path in state.held_out_annotated if path in found]
    labels = {name: label for label, name in enumerate(classes)}
    ap, per_class = None, {}
    if paths:
        predictions = make_targets(_prediction(found[path], labels) for path in paths)
        targets = make_targets(state.answers[path].target(labels, path) for path in paths)
        scores = voc_average_precision(predictions, targets, len(classes), method="area")
        per_class = {name: value for name, value in zip(classes, scores["per_class"], strict=True) if value is not None}
        ap = scores["map"] if per_class else None
    everything = {path: _prediction(found[path], labels) for path in state.there & found.keys()}
    return Measured(round_.number, trained.images, trained.boxes, len(paths), ap, per_class, everything)


def _prediction(found: list[Detection], labels: dict[str, int]) -> dict[str, np.ndarray]:
    """Return detections as `ObjectDetector.predict` does, without those of classes that are not looked for any more."""
    known = [one for one in found if one[0] in labels]
    return {
        "boxes": np.array([one[2:] for one in known], dtype=np.float64).reshape(-1, 4),
        "labels": np.array([labels[one[0]] for one in known], dtype=np.int64),
        "scores": np.array([one[1] for one in known], dtype=np.float64),
    }
