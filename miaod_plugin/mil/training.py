"""MI-AOD's training: label-set training, and the rounds that drive two classifiers apart and together."""

from collections.abc import Mapping
from itertools import dropwhile
from typing import Literal

from torch import Tensor, nn

from ..detectors.base import Detector, group_by_padded_size
from ..detectors.network import DetectionNetwork
from ..parameters import Count, Natural, Probability
from ..training.base import Stage, Training, in_steps
from .objective import labeled_losses, unlabeled_losses
from .options import MIAODOptions, miaod_options


class MIAOD(Training):
    """Train two adversarial classifiers and a MIL head, on annotated images and on images without annotation.

    Label-set training, then `rounds` times a round that minimises the discrepancy of the classifiers, one that
    maximises it, and label-set training. Without unlabelled images it is label-set training alone.

    Parameters
    ----------
    label_epochs, min_epochs, max_epochs : int
        Passes over the labelled images in each label-set, minimising and maximising round; the latter two take as many
        steps again on unlabelled images.
    rounds : int
        How often minimising, maximising and label-set training follow each other.
    repeat : int
        How often an epoch repeats the sets.
    mode : {"improved", "faithful"}
        Do what the original implementation does, or what puts its known flaws right; see `MIAODOptions`.
    options : dict, optional
        Single options of `MIAODOptions` that differ from the mode's.
    whole_pool : bool
        Draw the unlabelled images of each pass from all there are, not from one random subset as large as the labelled
        set, as the paper does.
    average : float
        Share of the steps so far over which the weights that detect are an average of those that were trained; at 0
        they are the last ones.

    Attributes
    ----------
    options_ : MIAODOptions
        What the mode and the options come to.

    References
    ----------
    Yuan et al., *Multiple Instance Active Learning for Object Detection*, CVPR 2021, sections 3 and 4.1.
    """

    uses_unlabeled = True

    def __init__(
        self,
        label_epochs: Count = 3,
        min_epochs: Natural = 1,
        max_epochs: Natural = 1,
        rounds: Natural = 2,
        repeat: Count = 2,
        mode: Literal["improved", "faithful"] = "improved",
        options: Mapping | None = None,
        whole_pool: bool = False,
        average: Probability = 0.0,
    ):
        self.label_epochs = label_epochs
        self.min_epochs = min_epochs
        self.max_epochs = max_epochs
        self.rounds = rounds
        self.repeat = repeat
        self.mode = mode
        self.options = options
        self.whole_pool = whole_pool
        self.average = average

    @property
    def options_(self) -> MIAODOptions:
        """What the mode and the options come to."""
        return miaod_options(self.mode, self.options)

    def check(self) -> None:
        super().check()
        miaod_options(self.mode, self.options)

    def build(self, detector: Detector) -> DetectionNetwork:
        options = self.options_
        return DetectionNetwork(
            detector, adversarial=True, background=options.background, detect_with=options.detect_with
        )

    def plan(self, n_labeled: int, n_unlabeled: int, batch_size: int, max_steps: int | None) -> list[Stage]:
        schedule = [stage for stage in self._schedule() if n_unlabeled or not stage.alternates]
        return in_steps(schedule, n_labeled, batch_size, max_steps)

    def adversarial_plan(self, n_labeled: int, n_unlabeled: int, batch_size: int, max_steps: int | None) -> list[Stage]:
        """Return the plan with unlabelled images without the label-set training that it begins with."""
        stages = self.plan(n_labeled, n_unlabeled, batch_size, max_steps)
        return [*dropwhile(lambda stage: stage.kind == "label", stages)]

    def _schedule(self) -> list[Stage]:
        fresh = not self.options_.keep_optimizer
        label = Stage("label", self.label_epochs * self.repeat, fresh_optimizer=fresh)
        smallest = Stage("min", self.min_epochs * self.repeat, alternates=True, fresh_optimizer=fresh)
        largest = Stage("max", self.max_epochs * self.repeat, alternates=True, fresh_optimizer=fresh)
        return [label, *[smallest, largest, label] * self.rounds]

    def begin(self, network: DetectionNetwork, stage: Stage, trainable: list[nn.Parameter]) -> None:
        """Let train what a stage trains: all (label), all but f1 and f2 (min), only f1 and f2 (max)."""
        adversarial = {id(parameter) for parameter in network.classifiers.parameters()}
        for parameter in trainable:
            in_turn = (id(parameter) in adversarial) == (stage.kind == "max")
            parameter.requires_grad_(stage.kind == "label" or in_turn)
        network.train(stage.kind != "max")
        network.classifiers.train(stage.kind != "min")

    def losses(
        self, network: DetectionNetwork, images: list[Tensor], targets: list[dict[str, Tensor]] | None, stage: Stage
    ) -> dict[str, Tensor]:
        if targets is not None:
            return labeled_losses(network(images, targets), stage.kind, self.options_)
        groups = group_by_padded_size(network.detector, images)
        return unlabeled_losses([network(group) for group in groups], stage.kind, self.options_)

    def share(self, loss: str, n_images: int, n_batch: int) -> float:
        summed = loss in ("discrepancy", "agreement") and self.options_.discrepancy_over == "sum"
        return 1.0 if summed else super().share(loss, n_images, n_batch)


class LabelSet(MIAOD):
    """MI-AOD's label-set training alone: its two classifiers and its MIL head, on annotated images.

    This keeps what selection by MI-AOD gains apart from what training on unlabelled images gains. All parameters are
    as in `MIAOD`: its stages are MIAOD's label-set stages, and a query that adapts goes through the others on the pool.
    """

    uses_unlabeled = False
