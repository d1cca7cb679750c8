"""Digit scenes as a data set of experiments."""

from typing import Literal

from pydantic import field_validator, model_validator

from miaod_plugin.data import make_digit_scenes
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.data.digits import ClassCount, ImageSize, Imbalance, MostObjects, ObjectSize, check_sizes
from miaod_plugin.errors import ConfigError
from miaod_plugin.parameters import Count, Seed

from ..config.data_sections import DataKind, as_tuple


class Digits(DataKind):
    """Digit scenes drawn from a seed."""

    kind: Literal["digits"]
    """Handwritten digits over photographs, made in seconds; see `make_digit_scenes`."""
    train: Count
    """Training images: the pool."""
    test: Count
    """Test images."""
    n_classes: ClassCount = 5
    """The digits 0 to n_classes - 1."""
    image_size: ImageSize = 64
    """Height and width in pixels."""
    object_size: ObjectSize = (16, 40)
    """Smallest and largest length of the longer side of a digit, in pixels."""
    max_objects: MostObjects = 6
    """An image has 0 to max_objects objects, equally likely."""
    imbalance: Imbalance = 1.0
    """How many times as frequent class 0 is as the last class."""
    random_state: Seed = 0
    """Seed of the scenes."""

    _tuple = field_validator("object_size", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _fits(self) -> "Digits":
        try:
            check_sizes(self.train, self.image_size, self.object_size)
            check_sizes(self.test, self.image_size, self.object_size)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def load(self, on_error: str) -> tuple[DetectionData, DetectionData]:
        scenes = self.model_dump(exclude={"kind", "train", "test"})
        return (
            make_digit_scenes(self.train, split="train", **scenes),
            make_digit_scenes(self.test, split="test", **scenes),
        )
