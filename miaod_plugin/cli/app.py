"""The command line: ``miaod``. Commands import what they need, so that ``miaod --help`` answers at once."""

import errno
import sys
from importlib.metadata import version as installed_version
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import ConfigError, DataError, MiaodError
from ..threads import share_cores
from . import loop
from .experiment import run, sweep
from .images import evaluate, train
from .predict import predict
from .rank import rank
from .serve import serve

# What a path on the command line may run into, and what no program can help.
DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
}
# Plain text throughout: an error is one line, not a box.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data", help="Make or download data sets.")
app.add_typer(loop.app, name="loop", help="Annotate your own photographs, round after round.")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"miaod-plugin {installed_version('miaod-plugin')}")
        raise typer.Exit


@app.callback()
def miaod(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """Active learning for object detection."""


app.command()(run)
app.command()(sweep)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; report.html in the run's folder when left out.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The arm to take differences to; supervised+random when left out.")
    ] = None,
    least_boxes: Annotated[
        int, typer.Option(min=1, help="A second mean leaves out classes with fewer test boxes.")
    ] = 50,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="IMAGE BOX", help="What annotating an image costs, and each box in it.", show_default=False
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write what is worth keeping of a run to this folder, as small files.")
    ] = None,
) -> None:
    """Write a report that needs no network: curves, tables, statistics and selected images."""
    from miaod_plugin.experiments.report.export import export_results
    from miaod_plugin.experiments.report.page import write_report

    if prices is not None and not all(0 <= price < inf for price in prices):
        raise ConfigError(f"--prices: {prices[0]} and {prices[1]} are no prices; give two numbers of 0 or more")
    if export is not None and len(runs) > 1:
        raise ConfigError(f"--export: takes one run, not {len(runs)}; export each to a folder of its own")
    print(write_report(runs, out, reference, least_boxes=least_boxes, prices=prices))
    if export is not None:
        export_results(runs[0], export, reference, least_boxes)
        print(export)


for command in (train, evaluate, predict, rank, serve):
    app.command()(command)


@app.command()
def splits(
    yaml: Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("splits"),
) -> None:
    """Write down which images each seed of an experiment starts from, with checksums; see `initial` in experiments."""
    from miaod_plugin.experiments.config.schema import load_config
    from miaod_plugin.experiments.store.splits import write_splits

    for path in write_splits(load_config(yaml), out):
        print(path)


@app.command()
def diagnose(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    cycle: Annotated[int | None, typer.Option(help="Whose models to ask; the last that ends in a query.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Ask the models of this arm alone. May be repeated.")] = None,
) -> None:
    """Show whether strategies know what their detector gets wrong: utilities of the pool against its annotations."""
    from rich.console import Console

    from miaod_plugin.experiments.report.diagnosis import diagnosis_table, write_diagnosis

    rows, path = write_diagnosis(run, cycle, arm)
    Console().print(diagnosis_table(rows), highlight=False)
    print(path)


@app.command()
def runs(out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs")) -> None:
    """List the runs and their state: running, finished, partly done or failed."""
    from rich.console import Console

    from miaod_plugin.experiments.store.listing import list_runs, runs_table

    Console().print(runs_table(list_runs(out)), highlight=False)


@app.command()
def config(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show the options of this detector, strategy or training.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Everything, as a page in Markdown.")] = False,
) -> None:
    """Show every key of an experiment file: what it may be, its default, what it means."""
    from miaod_plugin.experiments.config.reference import as_markdown, as_text, key_parts, option_parts

    if markdown:
        print(as_markdown(), end="")
        return
    print(as_text(key_parts() if name is None else option_parts(name)))


@data_app.command()
def digits(
    folder: Annotated[Path, typer.Argument(help="Folder to write; made when missing.", show_default=False)],
    format: Annotated[Literal["voc", "coco"], typer.Option(help="Layout on disk.")] = "voc",
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = 1000,
    test: Annotated[int, typer.Option(min=1, help="Test images; their digits are by other writers.")] = 250,
    n_classes: Annotated[int, typer.Option(min=1, max=10)] = 5,
    image_size: Annotated[int, typer.Option(min=32, help="Side in pixels.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
) -> None:
    """Write digit scenes: handwritten digits over photographs, with boxes."""
    from ..data import make_digit_scenes, write_coco, write_voc

    for split, n_images in (("train", train), ("test", test)):
        scenes = make_digit_scenes(n_images, split=split, n_classes=n_classes, image_size=image_size, random_state=seed)
        (write_voc if format == "voc" else write_coco)(scenes, folder)
        print(f"{split}: {n_images} images in {folder}")


@data_app.command()
def voc(
    root: Annotated[Path, typer.Argument(help="Folder to hold VOC2007, VOC2012.", show_default=False)],
    year: Annotated[
        list[int] | None, typer.Option(help="2007 comes with its test set. May be repeated.", show_default="2007, 2012")
    ] = None,
    url_base: Annotated[str | None, typer.Option(help="A mirror: URL of the folder with the archives.")] = None,
) -> None:
    """Download PASCAL VOC (2007: 0.9 GB, 2012: 2.0 GB), verify and unpack it; goes on where it was stopped."""
    from ..data.download import VOC_TREE, voc_folders

    _download(voc_folders(year or [2007, 2012]), root, url_base, VOC_TREE)


@data_app.command()
def coco(
    root: Annotated[Path, typer.Argument(help="Folder to hold annotations, train2017, val2017.", show_default=False)],
    url_base: Annotated[str | None, typer.Option(help="A mirror: URL of the folder with the archives.")] = None,
) -> None:
    """Download COCO 2017 (20 GB, and as much to unpack it), verify and unpack it; goes on where it was stopped."""
    from ..data.download import COCO, COCO_TREE

    _download(COCO, root, url_base, COCO_TREE)


def _download(folders, root: Path, url_base: str | None, tree: str) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from ..data.download import download

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
            tasks = {}

            def report(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what)
                bars.update(tasks[what], completed=done, total=total or None)

            made = download(folders, root, url_base, report)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    except MiaodError:
        print(f"expected:\n{tree.replace('ROOT', str(root))}", file=sys.stderr)
        raise
    for folder in folders:
        print(f"{root / folder.name}: {'made' if root / folder.name in made else 'there already'}")


def main() -> None:
    """Run the command; what the user got wrong ends in one line and exit status 2, a full or locked disk in 1."""
    share_cores()
    try:
        app()
    except MiaodError as error:
        print(f"miaod: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in DISK:
            raise
        line = DataError(f"{error.filename or 'output'}: {error.strerror}")  # short and escaped
        print(f"miaod: {line}", file=sys.stderr)
        sys.exit(1)
