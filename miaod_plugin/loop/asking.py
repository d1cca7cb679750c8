"""Which photographs a round asks for, and what the tool shows of them."""

from collections.abc import Callable
from itertools import chain, zip_longest

import numpy as np

from ..annotations import Suggestion
from ..data.detection_data import DetectionData
from ..data.images import image_size, on_stored_pixels
from ..data.orientation import UPRIGHT
from ..errors import DataError
from ..estimator import ObjectDetector
from ..labeled import Labeled
from ..query import QueryStrategy
from ..ranking.patient import BrokenImages, PatientDetector
from ..ranking.ranking import rank_images, ranking_key
from ..ranking.row_file import RowFile
from ..registry import STRATEGIES, find
from .learning import annotated_images, detected, newest_model
from .places import Places
from .rounds import COVERS, MEASURES, Asked
from .settings import Settings
from .state import State

OnProgress = Callable[[int, int], None]  # how many images of a pass are done, and how many there are
OnBroken = Callable[[dict[str, DataError]], None]  # by the path of the file
Picked = list[tuple[str, float | None]]  # path and utility, best first


def pick_covering(
    detector: PatientDetector, pool: DetectionData, n_instances: int, on_broken: OnBroken, labelled: np.ndarray
) -> Picked:
    """Pick the images that cover a pool best: k-center greedy on a detector's embeddings.

    Where nothing is annotated yet, the first one is the most typical, the nearest to the mean of all, and has no
    utility; Sener and Savarese (ICLR 2018) begin with any.
    """
    pool, embeddings = embedded(detector, pool, on_broken)
    first = []
    if not len(labelled):
        first = [int(np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1).argmin())]
        labelled = pool.X[first]
    left, picked = pool.subset(np.delete(np.arange(len(pool)), first)), [(str(pool.ids[row]), None) for row in first]
    count = min(n_instances - len(first), len(left))
    if count:
        detector.begin()
        rows, distances = find(STRATEGIES, "coreset")().select(detector, left.X, count, labeled=labelled)
        picked += zip(left.ids[rows].tolist(), distances.tolist(), strict=True)
    return picked


def embedded(detector: PatientDetector, pool: DetectionData, on_broken: OnBroken) -> tuple[DetectionData, np.ndarray]:
    """Return the images that can be read, and their embeddings."""
    while len(pool):
        detector.begin()
        try:
            return pool, detector.transform(pool.X)
        except BrokenImages as error:
            on_broken(error.errors)
            pool = pool.subset(~np.isin(pool.X, list(error.errors)))
    raise DataError("there is no photograph left that can be read")


def pick_informative(
    detector: PatientDetector,
    strategy: QueryStrategy,
    pool: DetectionData,
    n_instances: int,
    on_broken: OnBroken,
    labelled: Labeled,
) -> Picked:
    """Pick the images that a strategy takes to be the most informative."""
    found = rank_images(detector, strategy, pool, n_instances, lambda error: on_broken(error.errors), labelled)
    return [(image.path, image.utility) for image in found]


def choose(
    places: Places,
    settings: Settings,
    state: State,
    estimator: ObjectDetector | None,
    n_instances: int,
    on_progress: OnProgress,
    on_broken: OnBroken,
) -> list[Asked]:
    """Return what the next round asks for, best first, with held-out photographs in between; see `Project.query`."""
    pool, held_out = state.pool, state.held_out_to_ask
    if not pool and not held_out:
        raise DataError("nothing is left to ask for; annotate what is open (miaod loop export), or add photographs")
    held_out = held_out[: max(n_instances // 2, n_instances - len(pool))]
    count, picked, model = min(n_instances - len(held_out), len(pool)), [], newest_model(places, state)
    if count:
        photos, labelled = state.photos_of(pool), state.photos_of(state.annotated + state.open_to_train).X
        strategy = settings.make_strategy()
        source = places.settings if model is None else places.model(model.number)  # what the rows follow from
        rows = RowFile(places.scratch("rows.safetensors"), ranking_key(source, strategy))
        if model is None:
            detector = PatientDetector(settings.make_estimator().untrained(), rows, on_progress)
            picked = pick_covering(detector, photos, count, on_broken, labelled)
        else:
            detector = PatientDetector(estimator, rows, on_progress)
            known = Labeled(labelled)
            if strategy.needs_labeled == "targets":  # what is open has none yet
                known = Labeled(*annotated_images(places, settings, state))
            picked = pick_informative(detector, strategy, photos, count, on_broken, known)
    why, by = (COVERS, None) if model is None else (settings.strategy.name, model.number)
    return alternating(
        [Asked(path, utility, why, by) for path, utility in picked],
        [Asked(path, None, MEASURES, None) for path in held_out],
    )


def suggestions(
    estimator: ObjectDetector | None, settings: Settings, state: State, asked: list[Asked], on_broken: OnBroken
) -> list[Suggestion]:
    """Return photographs as the tool shows them: with what the newest model, if any, detects, but for those held out.

    Boxes to start from would let the model have a say in what it is measured by. What cannot be read is left out.

    Raises
    ------
    DataError
        If none of them can be read.
    """
    paths = [one.path for one in asked if one.why != MEASURES]
    found, broken = {}, {}
    if estimator is not None and paths:
        photos = state.photos_of(paths)
        found = detected(estimator, photos, lambda row, error: broken.update({str(photos.X[row]): error}))
        # A detector may know a class that is not among those of the settings any more.
        labels = {name: label for label, name in enumerate(settings.classes)}
        labels = np.array([labels.get(name, -1) for name in estimator.classes_.tolist()])
    shown = []
    for one, file in zip(asked, state.photos_of(one.path for one in asked).X.tolist(), strict=True):
        if file in broken:
            continue
        try:
            height, width = image_size(file) if settings.orientation == UPRIGHT else on_stored_pixels(file, [])[0]
        except DataError as error:
            broken[file] = error
            continue
        boxes = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
        if one.path in found:
            image = found[one.path].above(settings.suggest_from).oriented(file, settings.orientation)
            known = labels[image.labels] >= 0
            inside = np.clip(image.boxes[known], 0, [width, height, width, height]).astype(np.float32)
            boxes = inside, labels[image.labels[known]], image.scores[known]
        shown.append(Suggestion(one.path, (width, height), one.utility, *boxes))
    if broken:
        on_broken(broken)
        if not shown:
            raise next(iter(broken.values()))
    return shown


def alternating(first: list, second: list) -> list:
    """Return both lists' entries in turn, so that who stops half-way has done half of each."""
    nothing = object()
    return [one for one in chain.from_iterable(zip_longest(first, second, fillvalue=nothing)) if one is not nothing]
