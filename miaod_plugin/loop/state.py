"""Where each photograph of a project stands."""

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..data import load_folder
from ..data.detection_data import DetectionData
from ..data.writing import check_name
from ..errors import DataError
from ..files import read_text
from .answers import Answer, read_answers
from .places import Places
from .rounds import Round, read_rounds

MOST_BYTES = 100_000_000  # of the list of held-out photographs


@dataclass(frozen=True)
class State:
    """The photographs there are, what annotators said, what was asked.

    Parameters
    ----------
    photos : DetectionData
        All that are in the folder now.
    answers : dict of Answer
        By path; of photographs that are gone, too.
    rounds : list of Round
    held_out : tuple of str
        Paths, in the order in which they are asked for.
    """

    photos: DetectionData
    answers: dict[str, Answer]
    rounds: list[Round]
    held_out: tuple[str, ...]

    @cached_property
    def asked_in(self) -> dict[str, int]:
        """The last round that asked for a photograph."""
        return {one.path: round_.number for round_ in self.rounds for one in round_.asked()}

    @property
    def last_round(self) -> int:
        return self.rounds[-1].number if self.rounds else 0

    @property
    def there(self) -> Set[str]:
        """The photographs that are in the folder."""
        return self._row_of.keys()

    @cached_property
    def gone(self) -> list[str]:
        """Photographs that were asked for, annotated or held out and are not in the folder any more."""
        return sorted((self.asked_in.keys() | self.answers.keys() | set(self.held_out)) - self.there)

    def known(self, path: str) -> bool:
        """Whether a photograph is annotated or unusable."""
        return path in self.answers and self.answers[path].state != "skipped"

    def open(self, path: str) -> bool:
        """Whether a photograph was asked for and nobody has answered since."""
        if path not in self.asked_in:
            return False
        answer = self.answers.get(path)
        return answer is None or (answer.state == "skipped" and self.asked_in[path] >= answer.ask_again)

    def standing(self, path: str) -> str:
        """Return where a photograph stands: gone, open, annotated, unusable, skipped or not asked."""
        if path not in self.there:
            return "gone"
        if self.open(path):
            return "open"
        return self.answers[path].state if path in self.answers else "not asked"

    def may_be_asked(self, path: str) -> bool:
        """Whether the next round may ask for a photograph."""
        answer = self.answers.get(path)
        if self.open(path) or self.known(path):
            return False
        return answer is None or answer.ask_again <= self.last_round + 1

    def photos_of(self, paths: Iterable[str]) -> DetectionData:
        """Return the photographs that have these paths, in their order."""
        return self.photos.subset(np.array([self._row_of[path] for path in paths], dtype=np.int64))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {path: row for row, path in enumerate(self.photos.ids.tolist())}

    @cached_property
    def _for_training(self) -> list[str]:
        held_out = set(self.held_out)
        return [path for path in self.photos.ids.tolist() if path not in held_out]

    @property
    def open_photos(self) -> list[str]:
        """What annotators have before them, in the order in which it was asked."""
        return [path for path in self.asked_in if path in self.there and self.open(path)]

    @property
    def pool(self) -> list[str]:
        """What the next round chooses from."""
        return [path for path in self._for_training if self.may_be_asked(path)]

    @property
    def held_out_to_ask(self) -> list[str]:
        """Held-out photographs that the next round may ask for."""
        return [path for path in self.held_out if path in self.there and self.may_be_asked(path)]

    @property
    def annotated(self) -> list[str]:
        """What is trained on."""
        return [path for path in self._for_training if self._is(path, "annotated")]

    @property
    def held_out_annotated(self) -> list[str]:
        """What is measured on."""
        return [path for path in self.held_out if path in self.there and self._is(path, "annotated")]

    @property
    def open_to_train(self) -> list[str]:
        """What is going to be trained on; what is picked next should differ from it, too."""
        return [path for path in self._for_training if self.open(path)]

    @property
    def unlabeled(self) -> list[str]:
        """What a training may learn from beside `annotated`."""
        return [path for path in self._for_training if not self.known(path)]

    def _is(self, path: str, state: str) -> bool:
        return path in self.answers and self.answers[path].state == state

    def count(self, state: str) -> int:
        """Return how many photographs that are there have an answer of this kind."""
        return sum(self._is(path, state) for path in self.there)

    def boxes_by_class(self) -> Counter[str]:
        """Return how many boxes of each class were drawn on photographs that are there."""
        return Counter(box.name for path in self.there & self.answers.keys() for box in self.answers[path].boxes)


def read_state(places: Places, photos: Path, classes: list[str]) -> State:
    """Return where each photograph of a folder stands now.

    Raises
    ------
    DataError
        If a photograph's name cannot name what is said of it, or a file of the project is missing or damaged.
    """
    there = load_folder(photos, classes)
    paths = there.ids.tolist()
    for path in paths:
        check_name(str(photos), path)
    held_out = _read_held_out(places.held_out, set(paths))
    return State(there, read_answers(places.answers), read_rounds(places.rounds), held_out)


def _read_held_out(file: Path, there: Set[str]) -> tuple[str, ...]:
    """Return the paths in a list, each once; a line that begins with ``#`` is a comment unless a photograph's name."""
    if not file.exists():
        raise DataError(f"{file}: is not here; restore it, or make an empty one to hold nothing out")
    lines = dict.fromkeys(read_text(file, MOST_BYTES, DataError).splitlines())
    return tuple(line for line in lines if line in there or (line and line[0] != "#"))
