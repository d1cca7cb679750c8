"""What a model is trained on, and what it then detects in the held-out photographs."""

from collections.abc import Callable

import numpy as np

from ..data.detection_data import DetectionData, make_targets
from ..errors import DataError
from ..estimator import ObjectDetector
from ..learner import DetectionLearner
from ..ranking.found import FOUND, to_found
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
    """Return the model of a round."""
    return ObjectDetector.load(places.model(round_.number), device=settings.device)


def learner_of(places: Places, settings: Settings, state: State, round_: Round) -> DetectionLearner:
    """Return a learner that knows a round's model, and what is annotated now."""
    learner = DetectionLearner(model_of(places, settings, round_), settings.make_strategy())
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
    learner = learner_of(places, settings, state, round_)
    if round_.held_out() is None:
        photos = state.photos_of(path for path in state.held_out if path in state.there)
        round_.write_held_out(_detections(learner.estimator, photos, on_progress))
    return learner


def _fit(places: Places, settings: Settings, state: State, on_step: Callable[[dict], None] | None) -> ObjectDetector:
    checkpoint = places.scratch("half_trained.safetensors")
    discard_damaged(checkpoint)
    estimator = settings.make_estimator(checkpoint=checkpoint, on_step=on_step)
    X, y = annotated_images(places, settings, state)
    unlabeled = state.photos_of(state.unlabeled).X if estimator.training_.uses_unlabeled else None
    return DetectionLearner(estimator, settings.make_strategy(), X, y, unlabeled=unlabeled).estimator


def _all_that_it_follows_from(settings: Settings, state: State) -> str:
    """Return a hash of how a model is trained, and on which boxes."""
    how = settings.model_dump(include={"classes", "detector", "training", "estimator", "seed"})
    boxes = [(path, [(box.name, box.corners) for box in state.answers[path].boxes]) for path in state.annotated]
    return fingerprint([how, boxes])


def _detections(
    estimator: ObjectDetector, photos: DetectionData, on_progress: Callable[[int, int], None]
) -> dict[str, list[Detection]]:
    """Return what a detector finds in photographs, by path; those whose files are broken are left out."""
    found, broken, classes = {}, {}, estimator.classes_.tolist()
    for rows, outputs in estimator.map_batches(photos.X, FOUND, broken.__setitem__) if len(photos) else ():
        for image in to_found(photos.ids[rows], outputs):
            lines = zip(image.labels.tolist(), image.scores.tolist(), image.boxes.tolist(), strict=True)
            found[image.path] = [
                (classes[label], round(score, 4), *(round(side, 1) for side in box)) for label, score, box in lines
            ]
        on_progress(len(found) + len(broken), len(photos))
    return {path: found[path] for path in photos.ids.tolist() if path in found}
