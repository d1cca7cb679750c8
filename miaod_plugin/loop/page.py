"""The page of a project: how good its models are, what was asked and why, and how the photographs are covered."""

from pathlib import Path

from ..errors import DataError, MiaodError
from ..estimator import ObjectDetector
from ..files import write_text
from ..pages import charts
from ..pages.page import template_environment
from ..ranking.patient import PatientDetector
from ..ranking.ranking import rows_key
from ..ranking.row_file import RowFile
from .album import MOST_BOXES, chapters, colours_of, heats
from .asking import OnBroken, OnProgress
from .coverage import KINDS, PoolMap, key, pool_map
from .learning import model_of, newest_model
from .places import Places
from .rounds import Round
from .settings import Settings
from .state import State
from .status import Status, status_of

WIDTHS = {"wide": 720, "narrow": 360}  # a chart is drawn for a desktop and for a phone; the page shows one
MOST_CURVES = 8  # classes that have a curve: as many as there are colours
MOST_CLASSES, MOST_ROUNDS = 40, 6  # in the table of classes
MOST_NAMED = 5  # photographs that are gone


def write_page(
    places: Places,
    settings: Settings,
    state: State,
    on_progress: OnProgress,
    on_broken: OnBroken,
) -> Path:
    """Write the page of a project in this state, without what needs a model that is not here; see `Project.report`."""
    status = status_of(state, settings)
    newest = missing = model = None
    try:
        newest = newest_model(places, state)
        model = None if newest is None else model_of(places, settings, newest)
    except MiaodError as error:
        missing = str(error)
    classes = _classes(settings, status)
    colours = colours_of(sorted(classes, key=lambda name: -status.boxes[name]))
    broken: dict[str, DataError] = {}
    told = chapters(state, settings, model, colours, broken.update)
    covered = None
    if missing is None:
        try:
            covered = _map(places, settings, state, newest, model, on_progress, broken.update)
        except MiaodError as error:  # weights cannot be downloaded, or no photograph can be read
            missing = str(error)
    if broken:
        on_broken(broken)
    environment = template_environment(Path(__file__).parent / "templates")
    environment.filters |= {"percent": _percent}
    environment.globals |= {"swatch": charts.swatch, "key": key, "kinds": KINDS, "most_boxes": MOST_BOXES}
    text = environment.get_template("project.html.jinja").render(
        name=places.folder.resolve().name,
        settings=settings,
        status=status,
        model=None if model is None else newest.number,
        missing=missing,
        gone=status.gone[:MOST_NAMED],
        curves=_curves(status),
        by_class=_by_class(status),
        drawn=_drawn(status),
        classes=classes,
        colours=colours,
        rounds=status.curve[: -MOST_ROUNDS - 1 : -1],
        chapters=told,
        heats=heats(told[0], state, model) if told else None,
        map=covered,
    )
    write_text(places.report, text)
    return places.report


def _map(
    places: Places,
    settings: Settings,
    state: State,
    newest: Round | None,
    model: ObjectDetector | None,
    on_progress: OnProgress,
    on_broken: OnBroken,
) -> PoolMap | None:
    """Return the map by the newest model, or before there is one by the detector that a training begins with."""
    source = places.settings if newest is None else places.model(newest.number)  # what the embeddings follow from
    rows = RowFile(places.scratch("map.safetensors"), rows_key(source))
    estimator = settings.make_estimator().untrained() if model is None else model
    return pool_map(state, PatientDetector(estimator, rows, on_progress), settings.seed, on_broken)


def _curves(status: Status) -> dict | None:
    """Return the curve of mean AP in both widths, None before there is one."""
    points = [
        charts.Point(one.images, one.ap, title=f"round {one.round}: {_percent(one.ap)} % with {one.images} photographs")
        for one in status.curve
        if one.ap is not None
    ]
    return _drawings([charts.Series("all classes", 0, points)]) if points else None


def _drawn(status: Status) -> list[str]:
    """Return the classes that have a curve: those with the most boxes."""
    measured = {name for one in status.curve for name in one.per_class}
    return sorted(measured, key=lambda name: (-status.boxes[name], name))[:MOST_CURVES]


def _by_class(status: Status) -> dict | None:
    series = [
        charts.Series(
            name,
            look,
            [
                charts.Point(one.images, value, title=f"{name}, round {one.round}: {_percent(value)} %")
                for one in status.curve
                if (value := one.per_class.get(name)) is not None
            ],
        )
        for look, name in enumerate(_drawn(status))
    ]
    return _drawings(series) if len(series) > 1 else None


def _drawings(series: list[charts.Series]) -> dict:
    return {
        name: charts.learning_curves(series, "Photographs trained on", "AP50 (%)", None, None, [], width)
        for name, width in WIDTHS.items()
    }


def _classes(settings: Settings, status: Status) -> dict[str, float]:
    """Return the classes of the settings, and others with boxes; of each, how many boxes to those of the largest."""
    names = dict.fromkeys([*settings.classes, *sorted(status.boxes)])
    largest = max(status.boxes.values(), default=0) or 1
    shown = sorted(names, key=lambda name: -status.boxes[name])[:MOST_CLASSES] if len(names) > MOST_CLASSES else names
    return {name: status.boxes[name] / largest for name in shown}


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f}"
