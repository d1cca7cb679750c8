"""PASCAL VOC layout as a data set of experiments."""

from collections.abc import Sequence
from typing import Annotated, Literal

from miaod_plugin.data import load_voc
from miaod_plugin.data.detection_data import DetectionData
from miaod_plugin.parameters import Whole
from miaod_plugin.settings.sections import Section

from ..config.data_sections import ClassNames, DataKind, Orientation, Place, Sizes, unless_at_hand


class VocPart(Section):
    """A file of ``ImageSets/Main``, of one or several years."""

    split: Place
    """The file's name without .txt, such as trainval."""
    years: list[Annotated[int, Whole(1, 9999)]] | None = None
    """Of which folders, such as [2007, 2012] for VOC2007 and VOC2012; left out where `root` is itself such a folder."""


class Voc(DataKind):
    """PASCAL VOC layout."""

    paths = frozenset({"root"})

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
    """What boxes on photos that EXIF turns count on; when left out, what the annotations' sizes tell, else stored."""
    sizes: Sizes | None = None
    """What to plan with while the data set is not at hand."""

    def load(self, on_error: str) -> tuple[DetectionData, DetectionData]:
        train = self._part(self.train, self.classes, on_error)
        return train, self._part(self.test, train.classes, on_error)

    def _part(self, part: VocPart, classes: Sequence[str] | None, on_error: str) -> DetectionData:
        return load_voc(
            self.root,
            split=part.split,
            years=part.years,
            classes=classes,
            one_based=self.one_based,
            on_error=on_error,
            orientation=self.orientation,
        )

    def told_sizes(self) -> Sizes | None:
        return unless_at_hand(self.sizes, [self.root])
