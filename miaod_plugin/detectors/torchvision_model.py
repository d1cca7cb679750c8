"""Any detection model of torchvision as it is: trained supervised, queried by random, entropy and core-set."""

import inspect
from collections.abc import Callable
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models import get_model_builder, list_models

from ..errors import ConfigError, did_you_mean, shown
from ..parameters import accepts, checked, described
from .options import Classes, ImageMean, ImageStd, Pixels
from .torchvision_parts import count_from_one, count_from_zero, padded_size
from .whole_model import ModelFeatures, WholeModel

# What torchvision's models have in common but say nothing of in their signatures.
_OPTIONS = {
    "min_size": Pixels | list[Pixels] | tuple[Pixels, ...],
    "max_size": Pixels,
    "image_mean": ImageMean,
    "image_std": ImageStd,
}


class TorchvisionDetector(WholeModel):
    """A detection model with torchvision's interface; its instances stay inside, so MI-AOD cannot train it.

    Parameters
    ----------
    model : Module
        ``model(images, targets)`` returns losses in training mode, ``model(images)`` detections otherwise; with
        ``model.transform`` and ``model.backbone``, as torchvision's have. It has ``num_classes + 1`` classes, the first
        of them background.
    num_classes : int

    Examples
    --------
    >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
    >>> from miaod_plugin import ObjectDetector
    >>> def build(num_classes):
    ...     return TorchvisionDetector(fasterrcnn_mobilenet_v3_large_fpn(num_classes=num_classes + 1), num_classes)
    >>> detector = ObjectDetector(build)
    >>> detector = ObjectDetector("torchvision:fasterrcnn_mobilenet_v3_large_fpn")  # the same
    """

    def __init__(self, model: nn.Module, num_classes: int):
        super().__init__()
        self.model = model
        self.num_classes = num_classes

    def features(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> ModelFeatures:
        seen = {}
        hooks = [
            part.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
            for name, part in (("transform", self.model.transform), ("backbone", self.model.backbone))
        ]
        try:
            result = self.model(images) if targets is None else self._losses(images, count_from_one(targets))
        finally:
            for hook in hooks:
                hook.remove()
        maps = seen["backbone"]
        maps = [maps] if isinstance(maps, Tensor) else list(maps.values())
        sizes = [tuple(image.shape[-2:]) for image in images]
        batch, _ = seen["transform"]
        padded = tuple(batch.tensors.shape[-2:])
        features = ModelFeatures(maps, maps[0].new_zeros(0, 4), batch.image_sizes, sizes, padded, targets)
        if targets is None:
            features.found = count_from_zero(result)
        else:
            features.losses = result
        return features

    def _losses(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the model's losses, which torchvision computes in training mode alone, also where it does not train.

        Then normalisation and dropout stay as they are when detecting.
        """
        fixed = nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd
        waking = [part for part in self.model.modules() if not self.training and not isinstance(part, fixed)]
        for part in waking:
            part.training = True
        try:
            return self.model(images, targets)
        finally:
            for part in waking:
                part.training = False

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        return padded_size(self.model.transform, height, width)


def torchvision_factory(name: str) -> Callable[..., TorchvisionDetector]:
    """Return the factory ``(num_classes, *, weights, **options)`` of a torchvision model for box detection.

    ``weights`` are the backbone's: ``"DEFAULT"``, the name of others that torchvision has for it, or ``None``;
    `options`, such as ``min_size``, go to torchvision's function `name`.

    Raises
    ------
    ConfigError
        If torchvision has no such model.
    """
    known = [model for model in list_models(module=torchvision.models.detection) if "mask" not in model]
    known = [model for model in known if "keypoint" not in model]
    if name not in known:
        raise ConfigError(f"detector: torchvision has no box detector {name!r}{did_you_mean(name, known)}")
    builder = get_model_builder(name)

    @checked
    def build(num_classes: Classes, *, weights: str | None = "DEFAULT", **options) -> TorchvisionDetector:
        """Return torchvision's model as it is; more options, such as min_size, go to torchvision's function.

        Parameters
        ----------
        weights : str or None
            Backbone weights: ``"DEFAULT"``, the name of others that torchvision has for it, or random ones.
        """
        default = inspect.signature(builder).parameters["weights_backbone"].default
        if weights == "DEFAULT" and default is not None:
            weights = default  # torchvision's choice for this detector, not always the backbone's newest
        _check_options(builder, options)
        try:
            model = builder(num_classes=num_classes + 1, weights=None, weights_backbone=weights, **options)
        except OSError:
            raise  # the download of the weights
        except Exception as error:
            raise ConfigError(f"detector_options: torchvision's {name} does not take these ({error})") from error
        return TorchvisionDetector(model, num_classes)

    return build


def _check_options(builder: Callable, options: dict) -> None:
    """Refuse names that torchvision lets pass, and numbers that it would only trip over in training."""
    parameters = inspect.signature(inspect.signature(builder).return_annotation).parameters
    known = parameters.keys() | inspect.signature(builder).parameters.keys()
    for name, value in options.items():
        if name not in known:
            raise ConfigError(f"detector_options: torchvision's {builder.__name__} has no {shown(name)}")
        default = parameters[name].default if name in parameters else None
        annotation = _OPTIONS.get(name) or (type(default) if type(default) in (int, float) else Any)
        if not accepts(annotation, value):
            allowed = described(annotation)
            raise ConfigError(f"detector_options: {name}: {shown(value)} is not allowed; give {allowed}")
