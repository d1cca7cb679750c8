"""What annotators said of single photographs: a small file each, so that the work of several people merges."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..annotations import Annotation
from ..errors import DataError, one_line, shown
from ..files import read_text, write_text

SUFFIX = ".json"
MOST_BYTES = 10_000_000  # a hundred thousand boxes
DECIMALS = 2  # of a pixel


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True, populate_by_name=True)


class Box(_Part):
    """A box in pixels of the upright photograph."""

    name: Annotated[str, Field(alias="class")]
    corners: Annotated[list[float], Field(alias="box", min_length=4, max_length=4)]

    @field_validator("corners")
    @classmethod
    def _has_area(cls, corners: list[float]) -> list[float]:
        x1, y1, x2, y2 = corners
        if not (0 <= x1 < x2 and 0 <= y1 < y2):
            raise ValueError(f"{shown(corners)} is no box; x1 < x2 and y1 < y2 expected, none below 0")
        return corners


class Answer(_Part):
    """What is known of one photograph.

    Attributes
    ----------
    state : {"annotated", "unusable", "skipped"}
        Annotated without any box means that there is nothing to find.
    boxes : list of Box
    annotator, time : str or None
        Who said so and when (ISO 8601), where the tool tells.
    round : int or None
        The last one that had asked, if any had.
    ask_again : int or None
        The first round that may ask for a skipped photograph again.
    """

    state: Literal["annotated", "unusable", "skipped"]
    boxes: list[Box] = Field(default_factory=list)
    annotator: str | None = None
    time: str | None = None
    round: int | None = None
    ask_again: int | None = None

    @field_validator("time")
    @classmethod
    def _iso(cls, time: str | None) -> str | None:
        if time is not None:
            _moment(time)
        return time

    @model_validator(mode="after")
    def _whole(self) -> "Answer":
        if (self.state == "skipped") != (self.ask_again is not None):
            raise ValueError("'ask_again' belongs to what is skipped, and to nothing else")
        if self.boxes and self.state != "annotated":
            raise ValueError(f"what is {self.state} has no boxes")
        return self

    @classmethod
    def of(cls, found: Annotation, classes: list[str], asked: int | None, last_round: int) -> "Answer":
        """Return what came back from a tool, with boxes on the upright photograph; `last_round` is the newest one."""
        corners = np.round(found.boxes.astype(np.float64), DECIMALS).tolist()
        rows = zip(found.labels.tolist(), corners, strict=True)
        try:
            return cls(
                state=found.state,
                boxes=[Box(name=classes[label], corners=box) for label, box in rows],
                annotator=found.annotator,
                time=found.time,
                round=asked,
                ask_again=last_round + 2 if found.state == "skipped" else None,
            )
        except ValidationError as error:
            raise DataError(f"{found.path}: {_problem(error)}; mend it in the tool and export again") from None

    def says_the_same(self, other: "Answer") -> bool:
        """Whether another answer adds nothing to this one."""
        return all(getattr(self, name) == getattr(other, name) for name in ("state", "boxes", "annotator", "time"))

    def outlasts(self, newer: "Answer") -> bool:
        """Whether this one stays where another one comes in later: it was given later, or the other one only skips."""
        if newer.state == "skipped" and self.state != "skipped":
            return True
        return self.time is not None and newer.time is not None and _moment(self.time) > _moment(newer.time)

    def target(self, labels: dict[str, int], where: str) -> dict[str, np.ndarray]:
        """Return the boxes as a target, with these labels of the classes."""
        for box in self.boxes:
            if box.name not in labels:
                raise DataError(f"{where}: class {shown(box.name)} is not among the settings' classes; add it there")
        boxes = np.array([box.corners for box in self.boxes], dtype=np.float32).reshape(-1, 4)
        return {"boxes": boxes, "labels": np.array([labels[box.name] for box in self.boxes], dtype=np.int64)}


def read_answers(folder: Path) -> dict[str, Answer]:
    """Return all answers by the path of the photograph."""
    return {file.relative_to(folder).as_posix().removesuffix(SUFFIX): _read(file) for file in _files(folder)}


def write_answer(folder: Path, path: str, answer: Answer) -> None:
    """Write what is known of a photograph, atomically: a line for each box, so that corrections show in a diff."""
    content = answer.model_dump(by_alias=True, exclude_none=True, exclude={"boxes"})
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    rows = [json.dumps(box.model_dump(by_alias=True), ensure_ascii=False) for box in answer.boxes]
    lines.append(' "boxes": [' + ",".join(f"\n  {row}" for row in rows) + "]")
    write_text(answer_file(folder, path), "{\n" + ",\n".join(lines) + "\n}\n")


def answer_file(folder: Path, path: str) -> Path:
    """Return the file of a photograph."""
    return folder / f"{path}{SUFFIX}"


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(files) if name.endswith(SUFFIX) and name[0] != ".")


def _read(file: Path) -> Answer:
    text = read_text(file, MOST_BYTES, DataError)
    try:
        return Answer.model_validate_json(text)
    except ValidationError as error:
        mend = "; two versions of it were not merged" if "<<<<<<<" in text else ""
        raise DataError(f"{file}: {_problem(error)}{mend}; mend it or delete it") from None


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    problem = first["msg"].removeprefix("Value error, ")  # pydantic's word for what validators raise
    return one_line(f"{where}: {problem}" if where else problem)


def _moment(time: str) -> datetime:
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise ValueError(f"{shown(time)} is no time in ISO 8601") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
