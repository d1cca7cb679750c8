"""What of a run is worth keeping when its folder is gone: small files for a paper or a repository."""

from pathlib import Path

from ..store.environment import environments
from ..store.layout import open_run
from ..store.stored import write_json, write_rows
from .classes import LEAST_BOXES, boxes_by_class, class_rows
from .comparison import Comparison, compare
from .page import parts_at_hand
from .plots import draw_curves

KEYS = ("reference", "arm", "score", "over", "cycle")
SAID = ("n", "mean", "low", "high", "p_value", "p_holm")
TIMES = ("train_seconds", "query_seconds")  # of one machine and of what else ran on it


def export_results(
    run_folder: str | Path, out: str | Path, reference: str | None = None, least_boxes: int = LEAST_BOXES
) -> None:
    """Write results.csv without times, per_class.csv, differences.csv, environment.json and curves.png to a folder.

    differences.csv has every paired difference of the report, as fractions, with its interval and p-values: `over`
    images or boxes, at a `cycle` or of the whole area. Where the data set is missing, the counts of test boxes are
    missing, too, and with them the mean over the classes that have at least `least_boxes`.

    Raises
    ------
    ConfigError
        If the folder holds no run, nothing is finished in it, or it has no arm `reference`.
    """
    run, out = open_run(run_folder), Path(out)
    _, test, _ = parts_at_hand(run)
    boxes = None if test is None else boxes_by_class(test)
    comparison = compare(run, reference, boxes, least_boxes)
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in comparison.rows]
    write_rows(out / "results.csv", rows)
    write_rows(out / "per_class.csv", class_rows(run, boxes))
    write_rows(out / "differences.csv", difference_rows(comparison), [*KEYS, *SAID])
    write_json(out / "environment.json", environments(run))
    draw_curves({run.config.name: (run, comparison)}, out, ("png",))


def difference_rows(comparison: Comparison) -> list[dict]:
    """Return a row for each paired difference: to the reference, and to the random arm of the same training."""
    return [
        dict(zip(KEYS, (one.reference, arm, one.score, one.x, row["cycle"]), strict=True))
        | {name: row[name] for name in SAID}
        for compared in (comparison, *comparison.selections())
        for one in compared.measures
        for arm, rows in one.paired.items()
        for row in rows
        if row["cycle"] == "area" or one.x == comparison.x  # a cycle has one score, whatever it is drawn against
    ]
