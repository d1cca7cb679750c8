"""What a data set of experiments is: the section `data` of their YAML, by its `kind`; see `experiments/data_kinds`."""

from collections.abc import Iterable
from os.path import exists  # False for names that no file can have, where Path.exists raises
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import field_validator

from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.parameters import Count, FilePath, Names, Several, Whole
from miaod_plugin.settings.sections import Section

Place = Annotated[str, FilePath()]
ClassNames = Annotated[list[str], Names(numbers=False)]
Orientation = Literal["stored", "upright"]


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple: YAML has none."""
    return tuple(value) if isinstance(value, list) else value


class Sizes(Section):
    """What `miaod run --dry-run` plans with where the data set is not at hand; where it is, it must agree."""

    train: Count
    """Training images."""
    test: Count
    """Test images."""
    image: Annotated[tuple, Several(Annotated[int, Whole(1, 65_536)], 2)]
    """Height and width in pixels."""
    boxes: Count | None = None
    """Boxes of all training images; needed for budgets that count them."""

    _tuple = field_validator("image", mode="before")(as_tuple)


class DataKind(Section):
    """A kind of data set. A subclass says with ``kind: Literal["NAME"]`` what it is called in an experiment file.

    It is registered under that name in the entry-point group `miaod_plugin.data_kinds`; its fields are its keys, each
    with the text below it as its meaning.
    """

    paths: ClassVar[frozenset[str]] = frozenset()
    """Keys, at any depth, whose path is looked up from the folder of the YAML where the current one has nothing."""

    def load(self, on_error: str) -> tuple[DetectionData, DetectionData]:
        """Return the training and the test part; `on_error` is "raise" or "skip", for annotations that are bad.

        Raises
        ------
        DataError
            If the data set is missing or malformed.
        """
        raise NotImplementedError

    def told_sizes(self) -> Sizes | None:
        """Return the sizes to plan with where nothing of the data set is at hand, if they are told."""
        return None


def unless_at_hand(sizes: Sizes | None, places: Iterable[str | Path]) -> Sizes | None:
    """Return `sizes` if none of the places is there; a data set that is there in part is loaded, or refused."""
    return None if any(exists(place) for place in places) else sizes
