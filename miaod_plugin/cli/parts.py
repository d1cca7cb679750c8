"""What the commands for a single detector share: their options, a bar, and what is said of broken images."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", "-c", help="A detector that `train`, a run or `save` wrote.", show_default=False)
]
Checkpoints = Annotated[
    list[Path],
    typer.Option(
        "--checkpoint",
        "-c",
        help="A detector that `train`, a run or `save` wrote; several for a committee.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ..., or auto: a GPU if there is one.")]
OnError = Annotated[
    Literal["stop", "skip"], typer.Option("--on-error", help="What to do about images that cannot be read.")
]
Orientation = Annotated[
    Literal["upright", "stored"],
    typer.Option(help="What boxes that are written count on: pixels as EXIF turns them, or as they are stored."),
]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Least score of a box that is drawn or written.")]

MOST_NAMED = 20  # broken images that get a line each


def load_detector(checkpoint: Path, device: str):
    """Read a detector onto a device."""
    from ..estimator import ObjectDetector

    return ObjectDetector.load(checkpoint, device=device)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of how many are done, of how many; it shows both and the time left, on a terminal alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            shown = bar.tasks[0]
            if shown.total != total or done < shown.completed:
                bar.reset(task, total=total, completed=done)  # another pass, which has a pace of its own
            else:
                bar.update(task, completed=done)

        yield show


def name_broken(errors: dict, left_out: bool) -> None:
    """Print a line for each image that cannot be read, up to twenty."""
    for error in list(errors.values())[:MOST_NAMED]:
        print(f"{'left out: ' if left_out else ''}{error}", file=sys.stderr)
    if len(errors) > MOST_NAMED:
        print(f"... and {len(errors) - MOST_NAMED} more", file=sys.stderr)


def refuse_broken(errors: dict, what_is_kept: str) -> None:
    """Name the images that cannot be read and end with exit status 2."""
    name_broken(errors, left_out=False)
    mend = "replace these files, or leave them out with --on-error skip"
    print(f"miaod: {len(errors)} images cannot be read: {mend}; {what_is_kept}", file=sys.stderr)
    raise typer.Exit(2)
