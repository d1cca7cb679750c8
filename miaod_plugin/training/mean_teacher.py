"""Training with a teacher: a student learns from annotated images, and from what its moving average sees in others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..detectors.base import Detector, group_by_padded_size
from ..detectors.losses import log_odds, quality_focal_loss
from ..detectors.network import DetectionNetwork, InstanceOutputs, require_instances
from ..distributed.group import normaliser
from ..parameters import Count, NonNegative, Number, Probability
from .base import Stage, Training, in_steps
from .views import strong_views

OBJECT = 0.1  # an instance counts as an object from this probability on


class MeanTeacher(Training):
    """Train a detector on annotated images, and to see in other images what its own moving average sees there.

    The average, the teacher, looks at unlabelled images as they are, and the student at the same images in other
    colours and with parts missing. The student's class probabilities of every instance are drawn to the teacher's, in
    which the classes compete: however sure the teacher is that there is an object, it is made surer of which class it
    is. There are no pseudo boxes, and so no threshold below which objects would count as background. The teacher is
    what detects in the end. Without unlabelled images it is trained on annotated images alone.

    Parameters
    ----------
    epochs : int
        Passes over the annotated images.
    burn_in : float
        Share of the steps on annotated images alone; then every step sees as many unlabelled images beside them.
    weight : float
        Of the loss on unlabelled images.
    temperature : float
        Below 1 the classes of the teacher are sharpened, at 1 they are not.
    strong_share : float
        Share of the batches of annotated images that are changed as the unlabelled ones are.
    average : float
        Share of the steps so far over which the teacher averages the student's weights.

    References
    ----------
    Tarvainen and Valpola, *Mean teachers are better role models*, NeurIPS 2017: the teacher.
    Liu et al., *Unbiased Teacher*, ICLR 2021: burn-in, weak and strong augmentation, in detection.
    Zhou et al., *Dense Teacher*, ECCV 2022: probabilities of all instances in place of pseudo boxes.
    Berthelot et al., *MixMatch*, NeurIPS 2019: sharpened classes.
    """

    uses_unlabeled = whole_pool = True

    def __init__(
        self,
        epochs: Count = 26,
        burn_in: Probability = 0.2,
        weight: NonNegative = 1.0,
        temperature: Annotated[float, Number(0.01, 1)] = 0.5,
        strong_share: Probability = 0.0,
        average: Annotated[float, Number(0, 1, above=True)] = 0.1,
    ):
        self.epochs = epochs
        self.burn_in = burn_in
        self.weight = weight
        self.temperature = temperature
        self.strong_share = strong_share
        self.average = average

    def build(self, detector: Detector) -> DetectionNetwork:
        require_instances(detector, "a teacher")
        return super().build(detector)

    def plan(self, n_labeled: int, n_unlabeled: int, batch_size: int, max_steps: int | None) -> list[Stage]:
        (alone,) = in_steps([Stage("label", self.epochs)], n_labeled, batch_size, max_steps)
        burn_in = round(self.burn_in * alone.steps) if n_unlabeled and self.weight else alone.steps
        stages = [Stage("label", burn_in), Stage("teach", alone.steps - burn_in, mixes=True)]
        return [stage for stage in stages if stage.steps]

    def losses(
        self, network: DetectionNetwork, images: list[Tensor], targets: list[dict[str, Tensor]] | None, stage: Stage
    ) -> dict[str, Tensor]:
        if targets is None:
            return {"consistency": self.weight * self._consistency(network, images)}
        if self.strong_share and torch.rand(()) < self.strong_share:
            images = strong_views(images)
        return network(images, targets).loss

    def _consistency(self, network: DetectionNetwork, images: list[Tensor]) -> Tensor:
        """Return the quality focal loss of the student against the teacher, per object that the teacher sees."""
        loss = objects = 0
        for group in group_by_padded_size(network.detector, images):
            with torch.no_grad():
                taught = network.average(group)
                wanted = sharpened(_odds(taught).sigmoid(), self.temperature)
            with _statistics_kept(network):
                odds = _odds(network(strong_views(group), seen=taught.features))
            there = 1 if taught.valid is None else torch.cat(taught.valid, dim=1)
            sureness = wanted.amax(dim=2) * there
            loss = loss + (quality_focal_loss(odds, wanted).sum(dim=2) * there).sum()
            objects = objects + torch.where(sureness > OBJECT, sureness, 0).sum()
        return loss / normaliser(objects)


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """Return probabilities of classes ``(B, A, C)`` whose sum, at most 1, goes to the likelier classes -> same shape.

    ``min(sum_c p, 1) softmax_c(log(p) / temperature)``
    """
    total = probabilities.sum(dim=2, keepdim=True).clamp(max=1)
    return total * (probabilities.clamp(min=1e-12).log() / temperature).softmax(dim=2)


def _odds(outputs: InstanceOutputs) -> Tensor:
    """Return the logits whose sigmoids are the class probabilities of all instances, ``(B, A, C)``, no background."""
    detector, logits = outputs.network.detector, torch.cat(outputs.logits, dim=1)
    return log_odds(logits)[..., : detector.num_classes] if detector.background else logits


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalise by the batch, but keep its running statistics, which are for images as they are."""
    norms = [(module, module.momentum) for module in network.modules() if isinstance(module, _BatchNorm)]
    for module, _ in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in norms:
            module.momentum = momentum
