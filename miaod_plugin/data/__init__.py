"""Data sets: the one structure they share, and its loaders and writers."""

from .coco import load_coco
from .coco_writing import write_coco
from .detection_data import DetectionData, make_targets
from .digits import make_digit_scenes
from .folder import load_folder
from .images import image_size, read_image
from .validation import check_targets
from .voc import VOC_CLASSES, load_voc
from .voc_writing import write_voc

__all__ = [
    "VOC_CLASSES",
    "DetectionData",
    "check_targets",
    "image_size",
    "load_coco",
    "load_folder",
    "load_voc",
    "make_digit_scenes",
    "make_targets",
    "read_image",
    "write_coco",
    "write_voc",
]
