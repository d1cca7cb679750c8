"""Data sets: the one structure they share, and its loaders and writers."""

from miaod_plugin.data.coco import load_coco
from miaod_plugin.data.coco_writing import write_coco
from miaod_plugin.data.detection_data import DetectionData, make_targets
from miaod_plugin.data.digits import make_digit_scenes
from miaod_plugin.data.folder import load_folder
from miaod_plugin.data.images import image_size, read_image
from miaod_plugin.data.validation import check_targets
from miaod_plugin.data.voc import VOC_CLASSES, load_voc
from miaod_plugin.data.voc_writing import write_voc

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
