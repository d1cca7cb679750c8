"""COCO JSON as a data set of experiments."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from miaod_plugin.data import load_coco
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.errors import shown
from miaod_plugin.settings.sections import Section

from ..config.data_sections import ClassNames, DataKind, Orientation, Place, Sizes, unless_at_hand


class CocoPart(Section):
    """A split in the usual layout, or a JSON of annotations and the folder of its images."""

    split: Place | None = None
    """Such as train2017, for annotations/instances_train2017.json and the folder train2017 in `root`."""
    annotations: Place | None = None
    """The JSON file, in place of `split`."""
    images: Place | None = None
    """The folder of its images, in place of `split`."""

    @model_validator(mode="after")
    def _either(self) -> "CocoPart":
        given = {name for name in ("split", "annotations", "images") if getattr(self, name) is not None}
        if given not in ({"split"}, {"annotations", "images"}):
            raise ValueError("give split, or annotations and images")
        return self


class Coco(DataKind):
    """COCO JSON: `root` and the splits in it, or an annotation file and a folder of images for each part."""

    paths = frozenset({"root", "annotations", "images"})

    kind: Literal["coco"]
    """Annotations as JSON, as COCO has them."""
    root: Place | None = None
    """The folder that holds annotations and the folders of images; all other paths are relative to it."""
    train: CocoPart
    """Training images: the pool."""
    test: CocoPart
    """Test images."""
    classes: ClassNames | None = None
    """Class names in label order; the categories of the training part when left out."""
    orientation: Orientation | None = None
    """What boxes on photos that EXIF turns count on; when left out, what the annotations' sizes tell, else stored."""
    sizes: Sizes | None = None
    """What to plan with while the data set is not at hand."""

    @model_validator(mode="after")
    def _rooted(self) -> "Coco":
        for name, part in (("train", self.train), ("test", self.test)):
            if part.split is not None and self.root is None:
                raise ValueError(f"{name}.split: {shown(part.split)} is looked for in data.root, which is not given")
        return self

    def places(self, part: CocoPart) -> tuple[Path, Path]:
        """Return the annotation file and the image folder of a part."""
        root = Path(self.root or "")
        if part.split is None:
            return root / part.annotations, root / part.images
        return root / "annotations" / f"instances_{part.split}.json", root / part.split

    def load(self, on_error: str) -> tuple[DetectionData, DetectionData]:
        given = {"on_error": on_error, "orientation": self.orientation}
        train = load_coco(*self.places(self.train), self.classes, split="train", **given)
        return train, load_coco(*self.places(self.test), train.classes, split="test", **given)

    def told_sizes(self) -> Sizes | None:
        return unless_at_hand(self.sizes, [self.places(part)[0] for part in (self.train, self.test)])
