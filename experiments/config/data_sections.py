"""The section `data` of an experiment YAML, by its `kind`; see `sections`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import field_validator, model_validator

from miaod_plugin.data.digits import ClassCount, ImageSize, Imbalance, MostObjects, ObjectSize, check_sizes
from miaod_plugin.errors import ConfigError, shown
from miaod_plugin.parameters import Count, FilePath, Names, Seed, Several, Whole

from .sections import Section

Place = Annotated[str, FilePath()]
ClassNames = Annotated[list[str], Names(numbers=False)]
Orientation = Literal["stored", "upright"]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # YAML has no tuples


class Digits(Section):
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

    _tuple = field_validator("object_size", mode="before")(_as_tuple)

    @model_validator(mode="after")
    def _fits(self) -> "Digits":
        try:
            check_sizes(self.train, self.image_size, self.object_size)
            check_sizes(self.test, self.image_size, self.object_size)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


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

    _tuple = field_validator("image", mode="before")(_as_tuple)


class VocPart(Section):
    """A file of ``ImageSets/Main``, of one or several years."""

    split: Place
    """The file's name without .txt, such as trainval."""
    years: list[Annotated[int, Whole(1, 9999)]] | None = None
    """Of which folders, such as [2007, 2012] for VOC2007 and VOC2012; left out where `root` is itself such a folder."""


class Voc(Section):
    """PASCAL VOC layout."""

    kind: Literal["voc"]
    """Annotations, ImageSets and JPEGImages, as PASCAL VOC has them."""
    root: Place
    """The folder that holds VOC2007, VOC2012, ..., or is itself one of them."""
    train: VocPart
    """Training images: the pool."""
    test: VocPart
    """Test images."""
    classes: ClassNames | None = None
    """Class names in label order; those of the training part when left out."""
    one_based: bool = True
    """Whether the top left pixel is (1, 1), as in PASCAL VOC itself, or (0, 0)."""
    orientation: Orientation | None = None
    """What boxes on photographs that EXIF turns count on; the stored pixels, with a warning, when left out."""
    sizes: Sizes | None = None
    """What to plan with while the data set is not at hand."""


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


class Coco(Section):
    """COCO JSON: `root` and the splits in it, or an annotation file and a folder of images for each part."""

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
    """What boxes on photographs that EXIF turns count on; the stored pixels, with a warning, when left out."""
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
