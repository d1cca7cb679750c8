"""The sections of an experiment YAML."""

import inspect
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from miaod_plugin.errors import did_you_mean
from miaod_plugin.registry import DETECTORS, STRATEGIES, find, registered

# Names become folder names.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+_.-]*$")]
Count = Annotated[int, Field(ge=1)]


# How an arm's detector may be trained; the runner makes the last two where they are called for.
SUPERVISED, MIAOD = "supervised", "miaod"
SUPERVISED_TWO_HEADS = "supervised-two-heads"  # labelled images only, for a strategy that reads two classifiers
FULL_SUPERVISION = "full-supervision"  # all images labelled, trained as the supervised arms are


class UnknownKeyError(ValueError):
    """A key in a free-form section that nothing takes: reported as 'section.key', like pydantic's own."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def refuse_unknown(given: dict, known: set[str], what: str) -> dict:
    """Return `given` if all its keys are known, or name the first that is not."""
    for key in given:
        if key not in known:
            raise UnknownKeyError(str(key), f"unknown {what}{did_you_mean(str(key), known)}")
    return given


class Section(BaseModel):
    """A part of an experiment file: no other keys, no other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # YAML has no tuples


class Digits(Section):
    """Digit scenes drawn from a seed; `train` and `test` are numbers of images."""

    kind: Literal["digits"]
    train: Count
    test: Count
    n_classes: Annotated[int, Field(ge=1, le=10)] = 5
    image_size: Annotated[int, Field(ge=32)] = 64
    object_size: tuple[Count, Count] = (16, 40)
    max_objects: Count = 6
    imbalance: Annotated[float, Field(ge=1.0)] = 1.0
    random_state: int = 0

    _tuple = field_validator("object_size", mode="before")(_as_tuple)


class Sizes(Section):
    """What `miaod run --dry-run` plans with where the data set is not at hand; where it is, it must agree."""

    train: Count
    test: Count
    image: tuple[Count, Count]  # (height, width) in pixels
    boxes: Count | None = None  # of all training images; needed for budgets that count them

    _tuple = field_validator("image", mode="before")(_as_tuple)


class VocPart(Section):
    """A file of ``ImageSets/Main``, of one or several years."""

    split: str
    years: list[int] | None = None


class Voc(Section):
    """PASCAL VOC layout: `root` holds VOC2007, VOC2012, ..., or is itself one such folder when `years` is left out."""

    kind: Literal["voc"]
    root: str
    train: VocPart
    test: VocPart
    classes: list[str] | None = None
    one_based: bool = True
    sizes: Sizes | None = None


class CocoPart(Section):
    """A JSON of annotations and the folder of its images."""

    annotations: str
    images: str


class Coco(Section):
    """COCO JSON: an annotation file and an image folder for each part."""

    kind: Literal["coco"]
    train: CocoPart
    test: CocoPart
    classes: list[str] | None = None
    sizes: Sizes | None = None


class Detector(Section):
    """A registered detector, or one of torchvision's, and its options."""

    name: str
    options: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _registered(cls, name: str) -> str:
        find(DETECTORS, name)
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "Detector":
        parameters = inspect.signature(find(DETECTORS, self.name)).parameters.values()
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            known = {parameter.name for parameter in parameters} - {"num_classes"}
            refuse_unknown(self.options, known, f"option of detector {self.name!r}")
        return self


class Arm(Section):
    """One line of the comparison: how the detector is trained, and how the next images are picked."""

    training: str  # supervised, miaod, or one of the experiment's variants of MI-AOD training
    strategy: str
    options: dict[str, Any] = {}
    name: Name = ""  # "training+strategy" unless given

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, arm: Any) -> Any:
        if isinstance(arm, dict) and "name" not in arm and {"training", "strategy"} <= arm.keys():
            arm = {**arm, "name": f"{arm['training']}+{arm['strategy']}"}
        return arm

    @field_validator("strategy")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in registered(STRATEGIES):
            raise ValueError(f"unknown strategy {name!r}{did_you_mean(name, registered(STRATEGIES))}")
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "Arm":
        known = set(find(STRATEGIES, self.strategy)().get_params()) - {"random_state"}
        refuse_unknown(self.options, known, f"option of strategy {self.strategy!r}")
        return self


class Budget(Section):
    """What the numbers under `budgets` count: images, boxes, or the seconds that annotating them takes."""

    unit: Literal["images", "boxes", "seconds"] = "images"
    per_image: Annotated[float, Field(ge=0.0)] | None = None  # seconds to look an image through
    per_box: Annotated[float, Field(ge=0.0)] | None = None  # seconds to draw a box

    @model_validator(mode="before")
    @classmethod
    def _crowdsourced(cls, budget: Any) -> Any:
        """Default to the median times of Su, Deng and Fei-Fei, Crowdsourcing annotations for visual object detection.

        AAAI workshop on human computation, 2012: 25.5 s to draw a box, 7.8 s to see that an image is covered.
        """
        if isinstance(budget, dict) and budget.get("unit") == "seconds":
            return {"per_image": 7.8, "per_box": 25.5} | budget
        return budget

    @model_validator(mode="after")
    def _costs(self) -> "Budget":
        costs = (self.per_image, self.per_box)
        if self.unit != "seconds" and costs != (None, None):
            raise ValueError(f"per_image and per_box belong to 'unit: seconds', not to {self.unit!r}")
        if self.unit == "seconds" and (None in costs or sum(costs) == 0):
            raise ValueError("per_image and per_box are numbers of seconds, and at least one is more than 0")
        return self

    @property
    def words(self) -> str:
        """What is counted, for headings."""
        return {"images": "labelled images", "boxes": "labelled boxes", "seconds": "annotation seconds"}[self.unit]


class Evaluation(Section):
    """How detections on the test images are scored."""

    metric: Literal["voc_11point", "voc_area", "coco"] = "voc_11point"


class Published(Section):
    """A curve from the literature, drawn beside the run's own."""

    label: str
    images: Annotated[list[Count], Field(min_length=1)]
    ap: list[Annotated[float, Field(ge=0.0, le=100.0)]]  # percent, one for each number of images

    @model_validator(mode="after")
    def _pairs(self) -> "Published":
        if len(self.ap) != len(self.images):
            raise ValueError(f"{len(self.ap)} values of ap for {len(self.images)} of images; give one for each")
        return self
