"""What the options of the built-in detectors may be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from ..parameters import Positive, Several, Whole
from .backbones import BACKBONES

Classes = Annotated[int, Whole(1, 10_000)]
Weights = str | Path | None
Pixels = Annotated[int, Whole(1, 8192)]
Channels = Annotated[int, Whole(1, 1024)]
# GroupNorm has 32 groups, of more than one channel each: a small image's last map is a single cell
GroupedChannels = Annotated[int, Whole(64, 1024, multiple_of=32)]
HeadConvs = Annotated[int, Whole(0, 4)]
HeadFeatures = Annotated[int, Whole(1, 8192)]
Proposals = Annotated[int, Whole(1, 10_000)]
ImageMean = Annotated[Sequence[float], Several(float, 3)]
ImageStd = Annotated[Sequence[float], Several(Positive, 3)]
BatchNorm = Literal["frozen", "fixed_statistics", "trained"]
PyramidStages = Annotated[int, Whole(0, 4)]  # that end at strides 4, 8, 16 and 32
VGGStages = Annotated[int, Whole(0, len(BACKBONES["vgg16"].stages))]
PositivesOf = Literal["image", "batch"]
