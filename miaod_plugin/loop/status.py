"""How far a project is: what is annotated, what is left, and how good each round's model is."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..data.detection_data import make_targets
from ..metrics import voc_average_precision
from .rounds import Detection, Round
from .state import State


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
    """

    round: int
    images: int
    boxes: int
    held_out: int
    ap: float | None
    per_class: dict[str, float]


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


def status_of(state: State, classes: list[str]) -> Status:
    """Return the status of a project in this state."""
    curve = [one for one in (_measured(round_, state, classes) for round_ in state.rounds) if one is not None]
    return Status(
        photos=len(state.photos),
        annotated=state.count("annotated"),
        unusable=state.count("unusable"),
        skipped=state.count("skipped"),
        open=len(state.open_photos),
        pool=len(state.pool),
        held_out=len(state.there & set(state.held_out)),
        held_out_annotated=len(state.held_out_annotated),
        gone=state.gone,
        boxes=state.boxes_by_class(),
        new=max(0, len(state.annotated) - (curve[-1].images if curve else 0)),
        curve=curve,
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
    return Measured(round_.number, trained.images, trained.boxes, len(paths), ap, per_class)


def _prediction(found: list[Detection], labels: dict[str, int]) -> dict[str, np.ndarray]:
    """Return detections as `ObjectDetector.predict` does, without those of classes that are not looked for any more."""
    known = [one for one in found if one[0] in labels]
    return {
        "boxes": np.array([one[2:] for one in known], dtype=np.float64).reshape(-1, 4),
        "labels": np.array([labels[one[0]] for one in known], dtype=np.int64),
        "scores": np.array([one[1] for one in known], dtype=np.float64),
    }
