"""The commands ``miaod loop``: photographs, a labelling tool and a model, round after round."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import cut_list
from .parts import name_broken, progress_bar

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path, typer.Option("--project", help="Folder of the project.")]
Here = Path()
Tool = Annotated[str | None, typer.Option(help="label-studio, cvat, coco, voc or yolo; the project's when left out.")]


@app.command()
def init(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs.", show_default=False)],
    classes: Annotated[str, typer.Option(help="What to look for: NAME,NAME.", show_default=False)],
    tool: Annotated[str, typer.Option(help="label-studio, cvat, coco, voc or yolo.")] = "label-studio",
    orientation: Annotated[
        Literal["upright", "stored"],
        typer.Option(help="What the tool's boxes count on: pixels as EXIF turns them, or as they are stored."),
    ] = "upright",
    detector: Annotated[
        str | None,
        typer.Option(help="A registered detector.", show_default="for photographs, by whether there is a GPU"),
    ] = None,
    held_out: Annotated[int, typer.Option(min=0, help="Photographs to measure on; a fifth of all at most.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    project: Folder = Here,
) -> None:
    """Make a project in this folder, on a folder of photographs."""
    from ..loop import Project

    names = [name.strip() for name in classes.split(",")]
    made = Project.create(
        photos,
        names,
        folder=project,
        tool=tool,
        orientation=orientation,
        detector=detector,
        held_out=held_out,
        random_state=seed,
    )
    status = made.status()
    photographs = f"{status.photos} photographs, {status.held_out} of them held out"
    print(f"{made.places.settings}: {photographs}; look it over, then ask: miaod loop query")


@app.command()
def query(
    n: Annotated[int, typer.Option("-n", min=1, help="How many photographs to ask for.")] = 100,
    project: Folder = Here,
) -> None:
    """Choose photographs to annotate next, and write them for the labelling tool."""
    from ..loop import Project
    from ..loop.rounds import MEASURES

    loop = Project(project)
    before = loop.status()
    _name_gone(before.gone)
    if before.curve and before.new:
        print(f"{before.new} annotated photographs are new to the model; `miaod loop train` first", file=sys.stderr)
    if before.open:
        print(f"{before.open} photographs are open already; these are others", file=sys.stderr)
    with _resumable(), progress_bar("photographs") as show:
        asked = loop.query(n, show, lambda errors: name_broken(errors, left_out=True))
    lines = asked.asked()
    measure = sum(one.why == MEASURES for one in lines)
    picked = [f"{one.why}, model of round {one.model}" if one.model is not None else one.why for one in lines]
    by = next((why for why in picked if why != MEASURES), None)
    counts = ([] if by is None else [f"{len(lines) - measure} by {by}"]) + ([f"{measure} held out"] if measure else [])
    print(f"{loop.exported(asked)}: round {asked.number}, {len(lines)} photographs to annotate ({', '.join(counts)})")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    project: Folder = Here,
) -> None:
    """Write what is open for the labelling tool once more."""
    from ..loop import Project

    print(Project(project).export(out, lambda errors: name_broken(errors, left_out=True)))


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="What the tool exported.", show_default=False)],
    tool: Tool = None,
    annotator: Annotated[
        str | None, typer.Option(help="Whose annotations to keep where several do not agree.", show_default=False)
    ] = None,
    project: Folder = Here,
) -> None:
    """Take over what came back from the labelling tool; if anything in it is wrong, nothing."""
    from ..loop import Project

    loop = Project(project)
    brought = loop.import_annotations(source, tool, annotator)
    states = ", ".join(f"{brought.states[state]} {state}" for state in ("annotated", "unusable", "skipped"))
    more = [
        f"{count} {what}"
        for count, what in (
            (brought.changed, "of them changed"),
            (brought.as_before, "as before"),
            (brought.older, "left out as what is there is newer"),
        )
        if count
    ]
    print("; ".join([states, *more, f"{loop.status().open} are open"]))


@app.command()
def train(project: Folder = Here) -> None:
    """Train a model on what is annotated, and measure it on what is held out; goes on where it was stopped."""
    from ..loop import Project

    loop = Project(project)
    _name_gone(loop.status().gone)
    with _resumable(), progress_bar("steps") as show:
        learner = loop.train(lambda report: show(report["step"], report["total"]), show)
    newest = loop.status().curve[-1]
    measured = "nothing held out is annotated yet"
    if newest.ap is not None:
        measured = f"AP50 {100 * newest.ap:.1f} % on {newest.held_out} held-out photographs"
    print(
        f"{loop.places.model(newest.round)}: {learner.estimator.n_steps_} steps on {newest.images} photographs with"
        f" {newest.boxes} boxes; {measured}"
    )


@app.command()
def status(project: Folder = Here) -> None:
    """Show how far the project is: counts, boxes by class, and how good each round's model is."""
    from rich.console import Console
    from rich.table import Table

    from ..loop import Project

    loop = Project(project)
    now = loop.status()
    print(
        f"{now.photos} photographs: {now.annotated} annotated, {now.unusable} unusable, {now.skipped} skipped,"
        f" {now.open} open; {now.pool} to choose from"
    )
    print(f"held out: {now.held_out}, {now.held_out_annotated} of them annotated")
    boxes = ", ".join(f"{now.boxes[name]} {name}" for name in loop.settings.classes)
    print(f"{now.boxes.total()} boxes: {boxes}; about {now.hours:.1f} hours of annotation")
    _name_gone(now.gone)
    if not now.curve:
        return
    names = loop.settings.classes
    table = Table("round", "photographs", "boxes", "AP50 (%)", *names)
    for one in now.curve:
        per_class = [_percent(one.per_class.get(name)) for name in names]
        table.add_row(str(one.round), str(one.images), str(one.boxes), _percent(one.ap), *per_class)
    Console().print(table, highlight=False)
    if now.outlook is not None:
        print(f"the next {now.outlook.images} photographs: {_expected(now.outlook)}")
    for reason in now.reasons:
        print(f"you may stop: {reason}")


@app.command()
def report(project: Folder = Here) -> None:
    """Write a page to look at, which needs nothing but itself: the curve, what was asked and why, a map."""
    from ..loop import Project

    with _resumable(), progress_bar("photographs") as show:
        page = Project(project).report(show, lambda errors: name_broken(errors, left_out=True))
    print(page)


def _expected(outlook) -> str:
    """Say what more photographs bring and cost."""
    cost, gain = f"about {outlook.hours:.1f} hours", outlook.gain
    if gain is None:
        return f"{cost}; what they bring shows after three rounds"
    return (
        f"{cost}, {100 * gain.mean:+.1f} points of AP50 expected (95 %: {100 * gain.low:.1f} to {100 * gain.high:.1f})"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _name_gone(gone: list[str]) -> None:
    if gone:
        print(f"{len(gone)} photographs are gone, what was said of them is kept: {cut_list(gone)}", file=sys.stderr)


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
