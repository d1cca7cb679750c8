"""The options of MI-AOD: what the original does, what is put right, and the training schedule."""

from dataclasses import asdict, dataclass, replace

from miaod_plugin.errors import ConfigError, did_you_mean


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

    attention: str = "image"
    background: bool = True
    pseudo_labels: str = "image"
    detect_with: str = "mean"
    keep_optimizer: bool = True
    top_k: int | float = 0.1
    softmax: str = "everywhere"
    discrepancy_over: str = "mean"
    discrepancy_weight: float = 0.5
    pseudo_label_threshold: float = 0.5


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
_CHOICES = {
    "attention": ("level", "image"),
    "pseudo_labels": ("batch", "image"),
    "detect_with": ("first", "mean"),
    "softmax": ("discrepancy", "everywhere"),
    "discrepancy_over": ("sum", "mean"),
}


def miaod_options(mode: str = "improved", overrides: dict | None = None) -> MIAODOptions:
    """Return the options of a mode with single ones replaced.

    Raises
    ------
    ConfigError
        If the mode, a name or a value is not known.
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise ConfigError(f"mode: {mode!r} is not known{did_you_mean(str(mode), MODES)}")
    overrides = overrides or {}
    for name, value in overrides.items():
        if name not in asdict(MODES[mode]):
            raise ConfigError(f"options: {name!r} is not an option of MI-AOD{did_you_mean(name, asdict(MODES[mode]))}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ConfigError(f"options.{name}: {value!r} is not allowed; choose one of {', '.join(_CHOICES[name])}")
    options = replace(MODES[mode], **overrides)
    for name, most in (("discrepancy_weight", float("inf")), ("pseudo_label_threshold", 1)):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ConfigError(f"options.{name}: {value!r} is not allowed; give a number from 0 to {most}")
    top_k = options.top_k
    if isinstance(top_k, bool) or not (
        0 < top_k <= 1 if isinstance(top_k, float) else isinstance(top_k, int) and top_k
    ):
        raise ConfigError(f"options.top_k: {top_k!r} is not allowed; give a whole number or a share in (0, 1]")
    return options
