"""What each round asked for, and what the model trained after it is worth."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from ..errors import DataError, one_line, shown
from ..files import read_text, write_text

ASKED, TRAINED, HELD_OUT = "asked.csv", "trained.json", "held_out.json"
MEASURES, COVERS = "held-out", "coverage"  # reasons to ask
MOST_BYTES = 200_000_000
COLUMNS = ["path", "utility", "why", "model"]


@dataclass(frozen=True)
class Asked:
    """A photograph that a round asked for.

    Attributes
    ----------
    path : str
    utility : float or None
        How informative it was taken to be.
    why : str
        The strategy that picked it, ``"coverage"`` without a model, or ``"held-out"``.
    model : int or None
        The round whose model was asked.
    """

    path: str
    utility: float | None
    why: str
    model: int | None


class Trained(BaseModel):
    """What the model of a round was trained on, and how."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    of: str  # a hash of all that it was trained on
    time: str
    images: NonNegativeInt
    boxes: NonNegativeInt
    unlabeled: NonNegativeInt
    steps: NonNegativeInt
    detector: str
    training: str


Detection = tuple[str, Annotated[float, Field(ge=0, le=1)], float, float, float, float]  # class, score, x1, y1, x2, y2
_DETECTIONS = TypeAdapter(dict[str, list[Detection]], config=ConfigDict(allow_inf_nan=False))


@dataclass(frozen=True)
class Round:
    """One round of a project: a folder with its number; round 0 has asked for nothing.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    def asked(self) -> list[Asked]:
        """Return what the round asked for, in its order."""
        file = self.folder / ASKED
        if not file.exists():
            return []
        reader = csv.reader(io.StringIO(read_text(file, MOST_BYTES, DataError)))
        try:
            if (first := next(reader, None)) != COLUMNS:
                raise ValueError(f"{shown(first)} in place of {','.join(COLUMNS)}")
            return [_asked(row) for row in reader if row]
        except (ValueError, csv.Error) as error:
            raise DataError(f"{file}: line {reader.line_num}: {error}; restore the file") from None

    def trained(self) -> Trained | None:
        """Return what the round's model was trained on, None if there is no model yet."""
        file = self.folder / TRAINED
        if not file.exists():
            return None
        try:
            return Trained.model_validate_json(read_text(file, MOST_BYTES, DataError))
        except ValidationError as error:
            raise _damaged(file, error) from None

    def held_out(self) -> dict[str, list[Detection]] | None:
        """Return what the round's model detects in each held-out photograph, None if nobody has looked yet."""
        file = self.folder / HELD_OUT
        if not file.exists():
            return None
        try:
            return _DETECTIONS.validate_json(read_text(file, MOST_BYTES, DataError))
        except ValidationError as error:
            raise _damaged(file, error) from None

    def write_trained(self, trained: Trained) -> None:
        """Write it down; what an earlier model detected is forgotten before."""
        (self.folder / HELD_OUT).unlink(missing_ok=True)
        write_text(self.folder / TRAINED, trained.model_dump_json(indent=1) + "\n")

    def write_held_out(self, found: Mapping[str, list[Detection]]) -> None:
        """Write down what the model detects, a line for each photograph."""
        rows = [
            f" {json.dumps(path, ensure_ascii=False)}: {json.dumps(one, ensure_ascii=False)}"
            for path, one in found.items()
        ]
        write_text(self.folder / HELD_OUT, "{\n" + ",\n".join(rows) + "\n}\n")


def _damaged(file: Path, error: ValidationError) -> DataError:
    return DataError(one_line(f"{file}: {error.errors()[0]['msg']}; restore the file or train again"))


def read_rounds(folder: Path) -> list[Round]:
    """Return all rounds in their order."""
    found = folder.iterdir() if folder.is_dir() else []
    return [Round(path) for path in sorted((p for p in found if p.name.isdecimal()), key=lambda path: int(path.name))]


def write_asked(folder: Path, asked: Iterable[Asked]) -> None:
    """Write what a round asks for into its folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in asked:
        writer.writerow([one.path, "" if one.utility is None else f"{one.utility:.6g}", one.why, one.model])
    write_text(folder / ASKED, text.getvalue())


def _asked(row: list[str]) -> Asked:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} columns, not {len(COLUMNS)}")
    path, utility, why, model = row
    value = float(utility) if utility else None
    if value is not None and not math.isfinite(value):
        raise ValueError(f"the utility {shown(utility)} is not a finite number")
    return Asked(path, value, why, int(model) if model else None)


def fingerprint(what: object) -> str:
    """Return a hash of plain values."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
