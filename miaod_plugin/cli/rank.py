"""The command ``miaod rank``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import ConfigError
from .parts import (
    Checkpoints,
    Device,
    OnError,
    Orientation,
    Threshold,
    load_detector,
    name_broken,
    progress_bar,
    refuse_broken,
)

if TYPE_CHECKING:
    from ..labeled import Labeled
    from ..query import QueryStrategy
    from ..ranking.found import Found


def rank(
    pool: Annotated[
        str,
        typer.Argument(
            help="Folder of images without annotation; with --ray also Parquet files of them, or a URL.",
            show_default=False,
        ),
    ],
    checkpoint: Checkpoints,
    address: Annotated[
        str | None, typer.Argument(help="Of --ray: HOST:PORT, auto or local.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images to pick.")] = 100,
    strategy: Annotated[str, typer.Option(help="A registered query strategy, or skactiveml:NAME.")] = "miaod",
    labelled: Annotated[
        Path | None, typer.Option(help="Folder of the images annotated so far, which some strategies start from.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="COCO file with the boxes of --labelled, which some strategies learn from.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of strategies that draw at random.")] = 0,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("ranking.csv"),
    format: Annotated[
        Literal["csv", "json", "coco"] | None,
        typer.Option(help="csv, json, or coco: boxes to start annotating from; by default as the file's name ends."),
    ] = None,
    threshold: Threshold = 0.3,
    orientation: Orientation = "upright",
    on_error: OnError = "stop",
    device: Device = "auto",
    ray: Annotated[
        bool, typer.Option("--ray", help="Look at the images on Ray: on this machine, or where ADDRESS says.")
    ] = False,
    root: Annotated[
        str | None,
        typer.Option(help="With --ray, where the paths in Parquet files lie; in the files' own folder when left out."),
    ] = None,
) -> None:
    """Rank a folder of images by how much their annotation would teach a detector.

    What is done is kept beside the file to write, and the same command goes on from there. On Ray the utilities or
    embeddings of all images stay there, as Parquet.
    """
    from ..cluster.ranking import PoolQuery, rank_on_ray
    from ..cluster.shards import ImagePool
    from ..data import load_folder
    from ..files import write_text
    from ..ranking.patient import BrokenImages, PatientDetector
    from ..ranking.ranking import rank_images, ranking_key, rows_key
    from ..ranking.row_file import RowFile
    from ..registry import STRATEGIES, find

    query_strategy = find(STRATEGIES, strategy)(random_state=seed)
    if not ray and (other := address or root):
        raise ConfigError(f"{other}: an address and --root are for --ray; give that, too, or leave it out")
    estimator = _asked(checkpoint, "cpu" if ray else device, query_strategy, strategy)
    annotated = _annotated(labelled, annotations, estimator.classes_.tolist())
    _require_needed(query_strategy.needs_labeled, annotated, strategy)
    others = [rows_key(other) for other in checkpoint[1:]]
    key, left_out = ranking_key(checkpoint[0], query_strategy, others=others), set()

    def leave_out(error: BrokenImages) -> None:
        left_out.update(error.errors)
        name_broken(error.errors, left_out=True)

    on_broken = leave_out if on_error == "skip" else None
    rows = RowFile(out.with_name(f"{out.name}.partial"), key)
    try:
        with progress_bar("images") as show:
            if ray:
                query = PoolQuery(query_strategy, n, str(checkpoint[0].absolute()), key, annotated, orientation)
                place = ImagePool(pool, root, estimator.score_batch_size)
                parts = out.absolute().with_name(f"{out.name}.rows")
                ranked, n_images = rank_on_ray(query, place, parts, address, device, show, on_broken)
            else:
                images = load_folder(pool)
                detector = PatientDetector(estimator, rows, show)
                ranked = rank_images(detector, query_strategy, images, n, on_broken, annotated)
                ranked = [image.oriented(Path(pool) / image.path, orientation) for image in ranked]
                n_images = len(set(images.X.tolist()) - left_out)
    except BrokenImages as error:
        refuse_broken(error.errors, "the others are done and kept")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    kind = format or ("json" if out.suffix.lower() == ".json" else "csv")
    write_text(out, _as_text(kind, ranked, estimator.classes_.tolist(), threshold))
    rows.remove()
    print(f"{out}: the {len(ranked)} images of {n_images} to annotate next, by {strategy}")


def _asked(checkpoints: list[Path], device: str, strategy: "QueryStrategy", name: str):
    """Return the detector of one file, or for a strategy that compares detectors the committee of several."""
    from ..committee import Committee

    if strategy.n_detectors > 1 and len(checkpoints) < 2:
        raise ConfigError(f"--strategy {name} compares detectors; give --checkpoint for each of them, two at least")
    if strategy.n_detectors == 1 and len(checkpoints) > 1:
        raise ConfigError(f"--checkpoint: {len(checkpoints)} detectors, but --strategy {name} asks one; give one")
    detectors = [load_detector(checkpoint, device) for checkpoint in checkpoints]
    if len(detectors) == 1:
        return detectors[0]
    committee = Committee(detectors)
    committee.check()
    return committee


def _annotated(folder: Path | None, boxes: Path | None, classes: list[str]) -> "Labeled | None":
    """Return the images annotated so far, and their boxes where they are given."""
    from ..data import load_coco, load_folder
    from ..labeled import Labeled

    if boxes is None:
        return None if folder is None else Labeled(load_folder(folder).X)
    if folder is None:
        raise ConfigError("--annotations: give the folder of their images with --labelled")
    data = load_coco(boxes, folder, classes)
    return Labeled(data.X, data.y)


def _require_needed(needed: str | None, annotated: "Labeled | None", strategy: str) -> None:
    if needed and annotated is None:
        raise ConfigError(f"--strategy {strategy} starts from the annotated images; give their folder with --labelled")
    if needed == "targets" and annotated.y is None:
        raise ConfigError(f"--strategy {strategy} learns from annotated boxes; give their COCO file with --annotations")


def _as_text(kind: str, ranked: "list[Found]", classes: list[str], threshold: float) -> str:
    from ..ranking.found import as_coco, as_csv, as_json

    return as_csv(ranked) if kind == "csv" else (as_json if kind == "json" else as_coco)(ranked, classes, threshold)
