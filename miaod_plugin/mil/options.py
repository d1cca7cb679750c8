"""The options of MI-AOD: what the original does, what is put right, and the training schedule."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from ..errors import ConfigError, did_you_mean, shown
from ..parameters import Count, NonNegative, Probability, Share, check_arguments


@dataclass(frozen=True)
class MIAODOptions:
    """Every choice in which the `faithful` and the `improved` mode differ, and the constants both share.

    Parameters
    ----------
    attention : {"level", "image"}
        Softmax over the instances of each level on probabilities (the original; nearly uniform weights), or over those
        of the whole image on logits.
    background : bool
        The MIL head knows background, which takes part in its softmax over the classes, so that a single class can be
        absent.
    pseudo_labels : {"batch", "image"}
        Drop the pseudo-label loss for the whole batch if any image has no pseudo label, or for that image alone.
    detect_with : {"first", "mean"}
        Detect with f1 alone, or with the mean logits of f1 and f2.
    keep_optimizer : bool
        Keep one optimiser (momentum) through all rounds and warm up once, rather than begin anew with each round.
    top_k : int or float
        Instances whose mean uncertainty is the image's: a number, or as a float the share of an image's instances.
    softmax : {"discrepancy", "everywhere"}
        Of a detector whose probabilities are a softmax over classes and background (SSD, Faster R-CNN): compare the
        classifiers by it in the adversarial rounds alone, and take sigmoids of the logits, background included, in the
        instance weights, pseudo labels and uncertainty (the original), or use its foreground probabilities everywhere.
    discrepancy_over : {"sum", "mean"}
        Sum the discrepancy over the images of a batch, so that its weight against detection grows with the batch (the
        original, whose batches had two), or take the mean over them.
    discrepancy_weight : float
        Weight lambda of the discrepancy in both adversarial rounds (section 4.1 of the paper).
    pseudo_label_threshold : float
        Mean score from which a class counts as present in an unlabelled image.
    """

    attention: Literal["level", "image"] = "image"
    background: bool = True
    pseudo_labels: Literal["batch", "image"] = "image"
    detect_with: Literal["first", "mean"] = "mean"
    keep_optimizer: bool = True
    top_k: Count | Share = 0.1
    softmax: Literal["discrepancy", "everywhere"] = "everywhere"
    discrepancy_over: Literal["sum", "mean"] = "mean"
    discrepancy_weight: NonNegative = 0.5
    pseudo_label_threshold: Probability = 0.5


MODES = {
    "improved": MIAODOptions(),
    "faithful": MIAODOptions(
        attention="level",
        background=False,
        pseudo_labels="batch",
        detect_with="first",
        keep_optimizer=False,
        top_k=10_000,
        softmax="discrepancy",
        discrepancy_over="sum",
    ),
}


def miaod_options(mode: str = "improved", overrides: Mapping | None = None) -> MIAODOptions:
    """Return the options of a mode with single ones replaced.

    Raises
    ------
    ConfigError
        If the mode, a name or a value is not known.
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise ConfigError(f"mode: {shown(mode)} is not known{did_you_mean(mode, MODES)}")
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"options: {shown(overrides)} is not a mapping of names to values")
    for name in overrides:
        if name not in asdict(MODES[mode]):
            known = did_you_mean(name, asdict(MODES[mode]))
            raise ConfigError(f"options: {shown(name)} is not an option of MI-AOD{known}")
    check_arguments(MIAODOptions, overrides, "options.")
    return replace(MODES[mode], **overrides)
