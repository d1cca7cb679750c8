"""Files of labelling tools: images to annotate with boxes to start from, and the boxes that came back."""

from .agreement import agreed
from .base import Annotation, AnnotationFormat, Suggestion
from .checking import TurnedImage
from .coco import Coco
from .cvat import Cvat
from .label_studio import LabelStudio, label_config
from .turning import ImageSizes, read_annotations
from .voc import Voc
from .yolo import Yolo

__all__ = [
    "Annotation",
    "AnnotationFormat",
    "Coco",
    "Cvat",
    "ImageSizes",
    "LabelStudio",
    "Suggestion",
    "TurnedImage",
    "Voc",
    "Yolo",
    "agreed",
    "label_config",
    "read_annotations",
]
