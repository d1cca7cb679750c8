"""What detectors of photographs have in common, declared once: their options, and the pyramid they see through."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps

from torch import nn
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ..parameters import checked
from .backbones import BACKBONES, BATCH_NORMS, build_body
from .options import BatchNorm, Channels, GroupedChannels, ImageMean, ImageStd, Pixels, PyramidStages, Weights
from .precision import HalfPyramid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Photographs:
    """How photographs are resized and normalised, and the backbone with a feature pyramid that sees them.

    Parameters
    ----------
    weights : str, path or None
        Backbone weights: the name of torchvision's ImageNet weights (downloaded once; ``"DEFAULT"`` is the newest), a
        local state dict, or random ones. Or those of a whole detector: ``"COCO_V1"``, where torchvision has them, a
        state dict of torchvision's model, or a file that `save` wrote. Of these, layers that depend on the classes are
        taken only from a file that `save` wrote for the same classes.
    min_size, max_size : int
        Images are resized so that the shorter side is `min_size` pixels, or the longer `max_size` if that is smaller.
    image_mean, image_std : tuple of float
        Normalisation of images in 0..1, as the backbone weights expect it.
    batch_norm : {"frozen", "fixed_statistics", "trained"}
        Keep BatchNorm as the backbone weights have it, train its scale and shift alone, or train all of it.
    frozen_stages : int
        Backbone stages that do not train, counted from the image (0 to 4).
    fpn_channels : int
        Channels of the feature pyramid and its heads.
    """

    weights: Weights = "DEFAULT"
    min_size: Pixels = 600
    max_size: Pixels = 1000
    image_mean: ImageMean = IMAGENET_MEAN
    image_std: ImageStd = IMAGENET_STD
    batch_norm: BatchNorm = "frozen"
    frozen_stages: PyramidStages = 1
    fpn_channels: Channels = 256

    @property
    def transform(self) -> dict:
        """The keyword arguments that torchvision's detectors make their transform from."""
        return {name: getattr(self, name) for name in ("min_size", "max_size", "image_mean", "image_std")}

    def pyramid(self, backbone: str) -> HalfPyramid:
        """Return a feature pyramid on all layers of a backbone, and one more level by pooling (Faster R-CNN)."""
        return self._pyramid(self._body(backbone), BACKBONES[backbone].layers, BACKBONES[backbone].channels)

    def retina_pyramid(self, backbone: str, p6_from: str = "pyramid") -> HalfPyramid:
        """Return a feature pyramid on the layers of stride 8, 16, 32, with two extra levels: P3 to P7 (RetinaNet).

        The first extra level, P6, is made from the pyramid's coarsest level, or with ``p6_from="backbone"`` from the
        stage below it.
        """
        body = self._body(backbone)
        layers, channels = BACKBONES[backbone].layers[1:], BACKBONES[backbone].channels[1:]
        extra = LastLevelP6P7(self.fpn_channels if p6_from == "pyramid" else channels[-1], self.fpn_channels)
        extra.use_P5 = p6_from == "pyramid"
        return self._pyramid(body, layers, channels, extra_blocks=extra)

    def _body(self, backbone: str) -> nn.Module:
        return build_body(backbone, self.weights, self.frozen_stages, norm_layer=BATCH_NORMS[self.batch_norm])

    def _pyramid(self, body: nn.Module, layers: tuple[str, ...], channels: tuple[int, ...], **more) -> HalfPyramid:
        names = {layer: str(number) for number, layer in enumerate(layers)}
        return HalfPyramid(body, names, list(channels), self.fpn_channels, **more)


@dataclass(frozen=True)
class GroupedPhotographs(Photographs):
    """`Photographs` for heads with GroupNorm."""

    fpn_channels: GroupedChannels = 256


def takes_photographs(kind: type[Photographs] = Photographs, **defaults) -> Callable[[Callable], Callable]:
    """Decorate ``build(num_classes, photographs, *, ...)``: what is called takes the options of `kind` one by one.

    They stand in its signature, before its own and with these `defaults`, and in its docstring, and are checked like
    its own; see `parameters.checked`.
    """

    def decorate(build: Callable) -> Callable:
        options = {field.name: (field.type, defaults.get(field.name, field.default)) for field in fields(kind)}
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in options.items()
        ]
        own = inspect.signature(build)
        classes, _, *others = own.parameters.values()

        @wraps(build)
        def call(num_classes: int, **given):
            values = {name: given.pop(name, default) for name, (_, default) in options.items()}
            return build(num_classes, kind(**values), **given)

        call.__signature__ = own.replace(parameters=[classes, *shared, *others])
        call.__doc__ = _with_shared_parameters(build)
        return checked(call)

    return decorate


def _with_shared_parameters(build: Callable) -> str:
    """Return the docstring of a function with the parameters of `Photographs` before its own."""
    heading = "\n\nParameters\n----------\n"
    text, _, own = inspect.cleandoc(build.__doc__).partition(heading)
    shared = inspect.cleandoc(Photographs.__doc__).partition(heading)[2]
    return text + heading + "\n".join(part for part in (shared, own) if part)
