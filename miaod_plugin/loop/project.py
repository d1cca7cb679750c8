"""A project: a folder of photographs, what annotators said of them, and a model that learns from it."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..annotations import agreed, read_annotations
from ..errors import ConfigError, DataError
from ..files import atomic_folder
from ..learner import DetectionLearner
from ..parameters import Count, Natural, Seed, checked
from ..registry import ANNOTATION_FORMATS, find
from .asking import OnBroken, OnProgress, choose, suggestions
from .creating import create_project
from .importing import Imported, take_over
from .learning import learner_of, newest_estimator, train
from .page import write_page
from .places import Places
from .rounds import Round, write_asked
from .settings import Settings, read_settings
from .state import State, read_state
from .status import Status, status_of

logger = logging.getLogger("miaod_plugin")


def _warn_of_broken(errors: dict[str, DataError]) -> None:
    for error in errors.values():
        logger.warning("left out: %s", error)


def _tell_nothing(done: int, total: int) -> None:
    """Take how far a pass is."""


class Project:
    """The active-learning loop on a folder of photographs, in plain files that survive a kill and merge in git.

    What is asked, annotated and trained lies in the project's folder: `loop.yaml` (the settings, to be edited),
    `held_out.txt`, `annotations/` with a file for each annotated photograph, `rounds/` with what each round asked and
    what its model is worth, and `models/`. Every method reads all of it anew.

    Parameters
    ----------
    folder : path
        Of a project that `create` made.

    Attributes
    ----------
    settings : Settings
        What `loop.yaml` says.

    Raises
    ------
    ConfigError
        If there is no project, or its settings are wrong.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from miaod_plugin.data import make_digit_scenes, write_voc
    >>> from miaod_plugin.loop import Project
    >>> folder = Path(mkdtemp())
    >>> write_voc(make_digit_scenes(12, random_state=0), folder / "scenes")
    >>> project = Project.create(
    ...     folder / "scenes" / "JPEGImages", ["zero", "one"], folder=folder / "project", detector="retinanet_tiny")
    >>> round_ = project.query(4)
    >>> len(round_.asked()), project.status().open
    (4, 4)
    """

    def __init__(self, folder: str | Path = "."):
        self.places = Places(Path(folder))
        if not self.places.settings.is_file():
            mend = "go to its folder or name it, or make one: miaod loop init PHOTOS --classes NAME,NAME"
            name = self.places.settings.name
            raise ConfigError(f"{self.places.folder.absolute()}: no project is here, as there is no {name}; {mend}")
        self.settings: Settings = read_settings(self.places.settings)

    @classmethod
    @checked
    def create(
        cls,
        photos: str | Path,
        classes: Sequence[str],
        *,
        folder: str | Path = ".",
        tool: str = "label-studio",
        orientation: str = "upright",
        detector: str | None = None,
        held_out: Natural = 100,
        random_state: Seed = 0,
    ) -> "Project":
        """Make a project, and draw the photographs that are held out.

        Parameters
        ----------
        photos : path
            Folder of photographs; see `load_folder`. More may come later.
        classes : sequence of str
            What to look for.
        folder : path
            Where to make the project.
        tool : str
            A registered annotation format.
        orientation : {"upright", "stored"}
            What the tool's boxes count on: pixels turned upright as EXIF says, or as they are stored.
        detector : str, optional
            A registered detector; when left out, `retinanet_resnet50_fpn` where there is a GPU, and
            `retinanet_mobilenet_v2_fpn` elsewhere.
        held_out : int
            How many photographs to measure on; at most a fifth of those that are there are.
        random_state : int
            Seed of this draw, of trainings and of strategies.

        Raises
        ------
        ConfigError
            If there is a project already, or an argument is not allowed.
        DataError
            If there are no photographs.
        """
        create_project(Places(Path(folder)), Path(photos), classes, tool, orientation, detector, held_out, random_state)
        return cls(folder)

    @property
    def photos(self) -> Path:
        """The folder of photographs."""
        return self.places.folder / self.settings.photos

    def state(self) -> State:
        """Return where each photograph stands now."""
        return read_state(self.places, self.photos, self.settings.classes)

    def status(self) -> Status:
        """Return how far the project is; also while another process works on it."""
        return status_of(self.state(), self.settings)

    @checked
    def query(
        self,
        n_instances: Count = 100,
        on_progress: OnProgress = _tell_nothing,
        on_broken: OnBroken = _warn_of_broken,
    ) -> Round:
        """Choose photographs to annotate next, and write them for the labelling tool.

        Up to half of them are held-out ones, until all of those were asked for; these come without boxes to start from.
        The others are what the strategy picks with the newest model, or without any those that cover the pool. What was
        asked before is not asked again, unless it was skipped, and then not in the next round.

        Parameters
        ----------
        n_instances : int
            How many; fewer where fewer are left.
        on_progress : callable
            Called with how many images of a pass are done and how many there are. One that is stopped goes on there.
        on_broken : callable
            Called with the errors of files that cannot be read, by path; they are left out.

        Returns
        -------
        Round
            Whose `asked` lists them; `exported` names what was written for the tool.

        Raises
        ------
        DataError
            If nothing is left to ask for.
        """
        with self._locked():
            state = self.state()
            model = newest_estimator(self.places, self.settings, state)
            asked = choose(self.places, self.settings, state, model, n_instances, on_progress, on_broken)
            shown = suggestions(model, self.settings, state, asked, on_broken)
            there = {one.path for one in shown}
            round_ = Round(self.places.round(state.last_round + 1))
            for left_over in self.places.rounds.glob(".*.part"):
                shutil.rmtree(left_over)  # of a query that was killed
            with atomic_folder(round_.folder, DataError) as folder:
                write_asked(folder, [one for one in asked if one.path in there])
                self.settings.tool.make().write(folder / self._export_name, shown, self.settings.classes)
            return round_

    @property
    def _export_name(self) -> str:
        tool = self.settings.tool.make()
        return f"{tool.name}{tool.suffix}"

    def exported(self, round_: Round) -> Path:
        """Return the file or folder for the labelling tool that `query` wrote."""
        return round_.folder / self._export_name

    def export(self, folder: str | Path, on_broken: OnBroken = _warn_of_broken) -> Path:
        """Write all that is open for the labelling tool once more, and return the file or folder.

        Raises
        ------
        DataError
            If nothing is open.
        """
        state = self.state()
        if not state.open_photos:
            raise DataError(f"{self.places.rounds}: nothing is open; ask for photographs first: miaod loop query")
        asked = {one.path: one for round_ in state.rounds for one in round_.asked()}
        model = newest_estimator(self.places, self.settings, state)
        shown = suggestions(model, self.settings, state, [asked[path] for path in state.open_photos], on_broken)
        out = Path(folder) / self._export_name
        self.settings.tool.make().write(out, shown, self.settings.classes)
        return out

    def import_annotations(self, source: str | Path, tool: str | None = None, annotator: str | None = None) -> Imported:
        """Take over what came back from the labelling tool: all of it or, if anything in it is wrong, nothing.

        What was annotated before is replaced, unless the answer that is there has a later time; who skips a photograph
        takes nothing back. Photographs that nobody asked for are welcome. An import that was killed is done again.

        Parameters
        ----------
        source : path
            The file or folder that the tool exported.
        tool : str, optional
            A registered annotation format; that of the settings when left out.
        annotator : str, optional
            Whose annotations to keep where several annotated a photograph.

        Raises
        ------
        DataError
            If anything is not usable; nothing has changed then.
        """
        with self._locked():
            if Path(source).resolve().is_relative_to(self.places.rounds.resolve()):
                raise DataError(f"{source}: is what `query` wrote for the tool; give what the tool exported")
            state, classes = self.state(), self.settings.classes
            format = self.settings.tool.make() if tool is None else find(ANNOTATION_FORMATS, tool)()
            paths, orientation = state.photos.ids.tolist(), self.settings.orientation
            found = read_annotations(format, source, classes, self.photos, paths, orientation)
            return take_over(agreed(found, classes, annotator=annotator), classes, state, self.places.answers)

    def train(
        self,
        on_step: Callable[[dict], None] | None = None,
        on_progress: OnProgress = _tell_nothing,
    ) -> DetectionLearner:
        """Train a model on all that is annotated and not held out, and let it look at what is held out.

        A training that was stopped or killed goes on; where nothing has changed since, there is nothing to do.

        Parameters
        ----------
        on_step : callable, optional
            As in `ObjectDetector`.
        on_progress : callable
            Called with how many held-out photographs the model has looked at, and how many there are.

        Returns
        -------
        DetectionLearner
            See `learner`.

        Raises
        ------
        DataError
            If nothing is annotated.
        """
        with self._locked():
            return train(self.places, self.settings, self.state(), on_step, on_progress)

    def learner(self) -> DetectionLearner:
        """Return the newest model with the strategy and the annotated photographs, to go on with in Python."""
        model = newest_estimator(self.places, self.settings, state := self.state())
        if model is None:
            raise DataError(f"{self.places.rounds}: none has a model yet; train one: miaod loop train")
        return learner_of(model, self.places, self.settings, state)

    def report(self, on_progress: OnProgress = _tell_nothing, on_broken: OnBroken = _warn_of_broken) -> Path:
        """Write `report.html`, a page that needs nothing but itself, and return its path.

        For its map the newest model looks at up to 2,000 photographs; parameters are as in `query`.
        """
        return write_page(self.places, self.settings, self.state(), on_progress, on_broken)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time change the project."""
        lock = self.places.scratch("lock")
        lock.parent.mkdir(exist_ok=True)
        try:
            with FileLock(lock).acquire(timeout=0):
                yield
        except Timeout:
            raise ConfigError(
                f"{self.places.folder.absolute()}: another process works on this project; let it end first"
            ) from None
