"""What a labelling tool asks of a project: boxes for its tasks, and to learn from what is annotated."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..annotations.label_studio import LabelStudio, image_of, regions
from ..annotations.project_images import ProjectImages
from ..data.pixel_cache import file_state
from ..errors import ConfigError, DataError, MiaodError, shown
from ..estimator import ObjectDetector
from ..files import write_text
from ..loop import Project
from ..loop.asking import suggestions
from ..loop.learning import learner_of, model_of, newest_model
from ..loop.rounds import MEASURES, Asked, Round
from ..loop.state import State

logger = logging.getLogger("miaod_plugin")

MOST_TASKS = 1000  # of one request
LEARNS_FROM = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")


class Backend:
    """The answers of a project to Label Studio, as JSON.

    - ``setup`` and ``versions`` name the newest model.
    - ``predict`` finds boxes in the images of tasks. The score of a task falls with its utility, so that Label Studio's
      "uncertainty sampling", which begins with the least score, asks for the most informative first. Held-out images
      get no boxes: the model must have no say in what it is measured by.
    - ``webhook`` takes over an annotation as `Project.import_annotations` does, and trains once enough are new. What
      arrives while a model trains waits in the project's folder ``arrived`` until that is done, or until the next
      start. What is deleted in the tool stays annotated.
    - ``train`` trains now.

    Parameters
    ----------
    project : Project
        Whose tool is Label Studio.
    train_after : int or None
        How many annotated images must be new to the model before it trains again; None: only when it is told to.

    Raises
    ------
    ConfigError
        If the project's tool is another.
    """

    def __init__(self, project: Project, train_after: int | None = None):
        if project.settings.tool.name != LabelStudio.name:
            tool = project.settings.tool.name
            raise ConfigError(f"{project.places.settings}: tool.name: {tool!r} asks no server; only label-studio does")
        self.project, self.train_after = project, train_after
        self._training: threading.Thread | None = None
        self._estimator: tuple[tuple, ObjectDetector] | None = None  # and the state of its file
        self._one_at_a_time = threading.Lock()
        self._answers: dict[str, Callable[[dict], dict]] = {
            "setup": lambda _: {"model_version": self.version()},
            "versions": lambda _: {"versions": [self.version()]},
            "predict": lambda request: {"results": self.predict(request.get("tasks"))},
            "webhook": self.webhook,
            "train": lambda _: {"status": self.start_training()},
        }
        self._take_over_arrived()

    def answer(self, name: str, request: dict) -> dict | None:
        """Return what is answered to a request; None where there is no such call.

        Raises
        ------
        MiaodError
            If the request, or something of the project that it needs, is not usable.
        """
        answer = self._answers.get(name)
        if answer is None:
            return None
        with self._one_at_a_time:
            return answer(request)

    def version(self) -> str:
        """Return the name of the newest model."""
        return _named(newest_model(self.project.places, self.project.state()))

    def predict(self, tasks: object) -> list[dict]:
        """Return ``result``, ``score`` and ``model_version`` for each task."""
        if not isinstance(tasks, list) or len(tasks) > MOST_TASKS:
            raise DataError(f"tasks: {shown(tasks)} is not a list of at most {MOST_TASKS} tasks")
        state = self.project.state()
        paths, model = self._paths(tasks, state), newest_model(self.project.places, state)
        if model is None:
            return [{"result": [], "model_version": _named(model)} for _ in paths]
        estimator = self._loaded(model)
        held_out, name = set(state.held_out), self.project.settings.strategy.name
        asked = [Asked(path, None, MEASURES if path in held_out else name, None) for path in dict.fromkeys(paths)]
        broken: dict[str, DataError] = {}
        classes = self.project.settings.classes
        found = {one.path: one for one in suggestions(estimator, self.project.settings, state, asked, broken.update)}
        if broken:
            raise next(iter(broken.values()))
        utilities = self._utilities(estimator, state, [path for path in found if path not in held_out])
        results = [{"result": regions(found[path], classes), "model_version": _named(model)} for path in paths]
        for path, result in zip(paths, results, strict=True):
            if path in utilities:
                result["score"] = float(1 / (1 + np.exp(np.clip(utilities[path], -700, 700))))
        return results

    def _loaded(self, model: Round) -> ObjectDetector:
        """Return the model of a round, which is read once."""
        file = self.project.places.model(model.number)
        if self._estimator is None or self._estimator[0] != (file, file_state(file)):
            self._estimator = (file, file_state(file)), model_of(self.project.places, self.project.settings, model)
        return self._estimator[1]

    def _paths(self, tasks: list, state: State) -> list[str]:
        images = ProjectImages(dict.fromkeys(state.photos.ids.tolist(), (0, 0)))
        paths = []
        for number, task in enumerate(tasks):
            data = task.get("data") if isinstance(task, dict) else None
            if not isinstance(data, dict):
                raise DataError(f"tasks: {number}: {shown(task)} is not an object with 'data'")
            paths.append(image_of(images, data, f"task {shown(task.get('id', number))}"))
        return paths

    def _utilities(self, estimator: ObjectDetector, state: State, paths: list[str]) -> Mapping[str, float]:
        """Return how informative the strategy takes images to be, by path."""
        if not paths:
            return {}
        learner = learner_of(estimator, self.project.places, self.project.settings, state)
        photos, strategy = state.photos_of(paths), learner.query_strategy
        if strategy.adapts_by is not None:  # nobody waits for that long
            strategy.set_params(**{strategy.adapts_by: False})
        rows, utilities = strategy(learner, photos.X, n_instances=len(paths))
        return {paths[row]: float(utility) for row, utility in zip(rows, utilities, strict=True)}

    def webhook(self, event: dict) -> dict:
        """Learn from an event of Label Studio's."""
        action = event.get("action")
        if action == "START_TRAINING":
            return {"status": self.start_training()}
        if action not in LEARNS_FROM:
            return {"status": "ignored"}
        task, annotation = event.get("task"), event.get("annotation")
        if not isinstance(task, dict) or not isinstance(annotation, dict):
            raise DataError(f"{action}: holds no 'task' and 'annotation'; let the webhook send its payload")
        if type(number := annotation.get("id")) is not int or not 0 <= number < 2**63:  # the name of a file
            raise DataError(f"{action}: annotation.id: {shown(number)} is not the number of an annotation")
        self._paths([task], self.project.state())  # before anything is written
        arrived = self._arrived / f"{number}.json"
        whole = {"id": task.get("id"), "data": task["data"], "annotations": [annotation]}
        write_text(arrived, json.dumps([whole]))
        if self._is_training:
            return {"status": "waits until the training is done"}
        try:
            self._take_over(arrived)
        except ConfigError as error:  # another process works on the project
            return {"status": f"waits: {error}"}
        self._take_over_arrived()
        return {"status": "taken over", "training": self._train_if_enough_is_new()}

    @property
    def _arrived(self) -> Path:
        return self.project.places.folder / "arrived"

    def _take_over(self, arrived: Path) -> None:
        """Import one annotation; one that is refused is not kept."""
        try:
            self.project.import_annotations(arrived, LabelStudio.name)
        except DataError:
            arrived.unlink()
            raise
        arrived.unlink()

    def _take_over_arrived(self) -> None:
        for arrived in sorted(self._arrived.glob("*.json")) if self._arrived.is_dir() else ():
            try:
                self._take_over(arrived)
            except DataError as error:
                logger.warning("left out: %s", error)
            except ConfigError as error:
                logger.warning("waits: %s", error)
                return

    @property
    def _is_training(self) -> bool:
        return self._training is not None and self._training.is_alive()

    def _train_if_enough_is_new(self) -> str:
        if self.train_after is None or self.project.status().new < self.train_after:
            return "not yet"
        return self.start_training()

    def start_training(self) -> str:
        """Train in the background unless a training is under way, and return ``"started"`` or ``"under way"``."""
        if self._is_training:
            return "under way"
        self._training = threading.Thread(target=self._train, name="training", daemon=True)
        self._training.start()
        return "started"

    def _train(self) -> None:
        """Train, and then take over what arrived in the meantime."""
        try:
            self.project.train()
            logger.warning("trained: %s", self.version())
        except (MiaodError, OSError) as error:  # OSError: a full disk
            logger.warning("not trained: %s", error)
        with self._one_at_a_time:
            self._training = None  # what arrives from here on is taken over at once
            self._take_over_arrived()
            self._train_if_enough_is_new()

    def wait(self) -> None:
        """Wait until no training is under way."""
        training = self._training
        if training is not None:
            training.join()


def _named(model: Round | None) -> str:
    return "no model yet" if model is None else f"round {model.number}"
