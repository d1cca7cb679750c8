"""What a model is trained on, and what it then detects in the held-out photographs."""

from collections.abc import Callable

import numpy as np

from ..data.detection_data import DetectionData, make_targets
from ..data.images import read_frames
from ..data.orientation import UPRIGHT
from ..errors import DataError, shown
from ..estimator import ObjectDetector
from ..learner import DetectionLearner
from ..ranking.found import FOUND, Found, to_found
from ..training.checkpoint import discard_damaged
from .answers import answer_file
from .places import Places
from .rounds import Detection, Round, Trained, fingerprint, now
from .settings import Settings
from .state import State


def newest_model(places: Places, state: State) -> Round | None:
    """Return the newest round that has a model, None if none has.

    Raises
    ------
    DataError
        If its file is not here.
    """
    for round_ in reversed(state.rounds):
        if round_.trained() is not None:
            file = places.model(round_.number)
            if not file.is_file():
                raise DataError(f"{file}: is not here, as git leaves models out; train it: miaod loop train")
            return round_
    return None


def model_of(places: Places, settings: Settings, round_: Round) -> ObjectDetector:
    """Return the model of a round.

    Raises
    ------
    DataError
        If its file is damaged or another's.
    """
    try:
        return ObjectDetector.load(places.model(round_.number), device=settings.device)
    except DataError as error:
        raise DataError(f"{error}; delete it and train it again: miaod loop train") from None


def newest_estimator(places: Places, settings: Settings, state: State) -> ObjectDetector | None:
    """Return the model of the newest round that has one; see `newest_model` and `model_of`."""
    round_ = newest_model(places, state)
    return None if round_ is None else model_of(places, settings, round_)


def learner_of(model: ObjectDetector, places: Places, settings: Settings, state: State) -> DetectionLearner:
    """Return a learner that has a model, and knows what is annotated now."""
    learner = DetectionLearner(model, settings.make_strategy())
    learner.X_training, learner.y_training = annotated_images(places, settings, state)
    return learner


def annotated_images(places: Places, settings: Settings, state: State) -> tuple[np.ndarray, np.ndarray]:
    """Return the photographs to train on, and their targets."""
    labels = {name: label for label, name in enumerate(settings.classes)}
    targets = [state.answers[path].target(labels, str(answer_file(places.answers, path))) for path in state.annotated]
    return state.photos_of(state.annotated).X, make_targets(targets)


def train(
    places: Places,
    settings: Settings,
    state: State,
    on_step: Callable[[dict], None] | None,
    on_progress: Callable[[int, int], None],
) -> DetectionLearner:
    """Train the model of the newest round, unless it is what would come of it, and let it look at what is held out."""
    if not state.annotated:
        mend = "annotate what `miaod loop query` asks for, and import it"
        raise DataError(f"{places.answers}: no photograph to train on is annotated yet; {mend}")
    round_, of = Round(places.round(state.last_round)), _all_that_it_follows_from(settings, state)
    trained = round_.trained()
    if trained is None or trained.of != of or not places.model(round_.number).is_file():
        fitted = _fit(places, settings, state, on_step)
        fitted.save(places.model(round_.number))
        round_.write_trained(
            Trained(
                of=of,
                time=now(),
                images=len(fitted.X_labeled_),
                boxes=sum(len(target["boxes"]) for target in fitted.y_labeled_),
                unlabeled=fitted.n_unlabeled_,
                steps=fitted.n_steps_,
                detector=settings.detector.name,
                training=settings.training.name,
            )
        )
    learner = learner_of(model_of(places, settings, round_), places, settings, state)
    if round_.held_out() is None:
        photos = state.photos_of(path for path in state.held_out if path in state.there)
        round_.write_held_out(_detections(learner.estimator, photos, on_progress))
    return learner


def _fit(places: Places, settings: Settings, state: State, on_step: Callable[[dict], None] | None) -> ObjectDetector:
    checkpoint = places.scratch("half_trained.safetensors")
    discard_damaged(checkpoint)
    estimator = settings.make_estimator(checkpoint=checkpoint, on_step=on_step)
    X, y = annotated_images(places, settings, state)
    _require_inside(places, state, X, y)
    unlabeled = state.photos_of(state.unlabeled).X if estimator.training_.uses_unlabeled else None
    return DetectionLearner(estimator, settings.make_strategy(), X, y, unlabeled=unlabeled).estimator


def _require_inside(places: Places, state: State, X: np.ndarray, y: np.ndarray) -> None:
    """Raise a DataError for the first photograph that a box leaves, as it was replaced or its annotation edited."""
    sizes = read_frames(X.tolist(), UPRIGHT).sizes[:, ::-1]
    for path, (width, height), target in zip(state.annotated, sizes.tolist(), y, strict=True):
        outside = (target["boxes"][:, 2:] > (width + 1, height + 1)).any(axis=1)
        if outside.any():
            box = shown(target["boxes"][outside][0].tolist())
            raise DataError(
                f"{answer_file(places.answers, path)}: {box} reaches outside its {width} x {height} photograph;"
                " restore that, or delete this file and annotate anew"
            )


def _all_that_it_follows_from(settings: Settings, state: State) -> str:
    """Return a hash of how a model is trained, and on which boxes."""
    how = settings.model_dump(include={"classes", "detector", "training", "estimator", "seed"})
    boxes = [(path, [(box.name, box.corners) for box in state.answers[path].boxes]) for path in state.annotated]
    return fingerprint([how, boxes])


def detected(
    estimator: ObjectDetector,
    photos: DetectionData,
    on_broken: Callable[[int, DataError], None],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Found]:
    """Return what a detector finds in photographs, by path; see `map_batches` for those whose files are broken."""
    found, broken = {}, []

    def leave_out(row: int, error: DataError) -> None:
        broken.append(row)
        on_broken(row, error)

    for rows, outputs in estimator.map_batches(photos.X, FOUND, leave_out) if len(photos) else ():
        found |= {image.path: image for image in to_found(photos.ids[rows], outputs)}
        on_progress(len(found) + len(broken), len(photos))
    return {path: found[path] for path in photos.ids.tolist() if path in found}


def _detections(
    estimator: ObjectDetector, photos: DetectionData, on_progress: Callable[[int, int], None]
) -> dict[str, list[Detection]]:
    """Return what a detector finds in photographs, by path; those whose files are broken are left out."""
    classes = estimator.classes_.tolist()
    found = {}
    for path, image in detected(estimator, photos, lambda row, error: None, on_progress).items():
        lines = zip(image.labels.tolist(), image.scores.tolist(), image.boxes.tolist(), strict=True)
        found[path] = [
            (classes[label], round(score, 4), *(round(side, 1) for side in box)) for label, score, box in lines
        ]
    return found
