"""What comes back from a labelling tool, beside what is known."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..annotations import Annotation
from .answers import Answer, write_answer
from .state import State


@dataclass(frozen=True)
class Imported:
    """What an import brought: photographs by their state, and how many of them had another answer before.

    - ``states``: how many are new or changed, by state;
    - ``changed``: how many of those had another answer before;
    - ``as_before``: how many say what was known;
    - ``older``: how many were left out, because the answer that is there is newer.
    """

    states: Counter
    changed: int
    as_before: int
    older: int


def take_over(found: list[Annotation], classes: list[str], state: State, folder: Path) -> Imported:
    """Write into `folder` what is new, an annotation of each photograph; first all are checked."""
    before, asked_in, last = state.answers, state.asked_in, state.last_round
    news = {one.path: Answer.of(one, classes, asked_in.get(one.path), last) for one in found}
    known = news.keys() & before.keys()
    same = {path for path in known if before[path].says_the_same(news[path])}
    older = {path for path in known - same if before[path].outlasts(news[path])}
    written = [path for path in news if path not in same | older]
    for path in written:
        write_answer(folder, path, news[path])
    states = Counter(news[path].state for path in written)
    return Imported(states, len(known) - len(same) - len(older), len(same), len(older))
