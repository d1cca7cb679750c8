"""The sections of an experiment YAML. The text under a field is its entry in the reference, `miaod config`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from miaod_plugin.parameters import Count, FolderName, NonNegative, Number
from miaod_plugin.query import QueryStrategy
from miaod_plugin.registry import EXECUTORS, STRATEGIES, find
from miaod_plugin.settings.annotation_time import AnnotationTime
from miaod_plugin.settings.sections import Section, check_options, with_strategies

Name = Annotated[str, FolderName()]


SUPERVISED = "supervised"
FULL_SUPERVISION = "full-supervision"  # what the runner calls the supervised training on all images


class Arm(Section):
    """One line of the comparison: how the detector is trained, and how the next images are picked."""

    training: str
    """A registered training, such as supervised, label_set or miaod, or one of the experiment's `trainings`."""
    strategy: str
    """A registered query strategy, or skactiveml:NAME for one of scikit-activeml's that looks at embeddings alone."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The strategy's own; `miaod config NAME` lists them."""
    name: Name = ""
    """Of the arm's folder and curves; TRAINING+STRATEGY when left out, with - for a colon."""

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, arm: Any) -> Any:
        if isinstance(arm, dict) and "name" not in arm and {"training", "strategy"} <= arm.keys():
            name = f"{arm['training']}+{arm['strategy']}".replace(":", "-")  # which no folder of Windows may have
            arm = {**arm, "name": name}
        return arm

    @field_validator("strategy")
    @classmethod
    def _registered(cls, name: str) -> str:
        find(STRATEGIES, name)
        return name

    @model_validator(mode="after")
    def _known_options(self) -> "Arm":
        check_options(find(STRATEGIES, self.strategy), self.options, f"strategy {self.strategy!r}")
        return self

    def new_strategy(self) -> QueryStrategy:
        """Return the strategy with its options, without a seed."""
        kind = find(STRATEGIES, self.strategy)
        return kind(**with_strategies(kind, self.options))


class Budget(Section):
    """What the numbers under `budgets` count: images, boxes, or the seconds that annotating them takes."""

    unit: Literal["images", "boxes", "seconds"] = "images"
    """What a budget is spent on."""
    per_image: NonNegative | None = None
    """Seconds to look an image through, with unit seconds; 7.8 when left out."""
    per_box: NonNegative | None = None
    """Seconds to draw a box, with unit seconds; 25.5 when left out."""

    @model_validator(mode="before")
    @classmethod
    def _crowdsourced(cls, budget: Any) -> Any:
        if isinstance(budget, dict) and budget.get("unit") == "seconds":
            return AnnotationTime().model_dump() | budget
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
    """Mean AP at IoU 0.5 by the 11 points of VOC 2007 or by the area under the curve, or COCO's."""


class Executor(Section):
    """Where the cells run."""

    name: str = "processes"
    """A registered executor: processes of this machine, or ray for tasks on a cluster, as `miaod run --ray` says."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The executor's own; `miaod config NAME` lists them."""

    @model_validator(mode="after")
    def _known(self) -> "Executor":
        check_options(find(EXECUTORS, self.name), self.options, f"executor {self.name!r}")
        return self


class Published(Section):
    """A curve from the literature, drawn beside the run's own."""

    label: str
    """What the legend says."""
    images: Annotated[list[Count], Field(min_length=1)]
    """Numbers of labelled images."""
    ap: list[Annotated[float, Number(0, 100)]]
    """Percent, one for each number of images."""

    @model_validator(mode="after")
    def _pairs(self) -> "Published":
        if len(self.ap) != len(self.images):
            raise ValueError(f"{len(self.ap)} values of ap for {len(self.images)} of images; give one for each")
        return self
