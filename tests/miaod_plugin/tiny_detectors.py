"""Every registered detector, small enough for a test: options that need no download and little time."""

_SMALL_PYRAMID = {"weights": None, "min_size": 64, "max_size": 64, "fpn_channels": 16, "head_convs": 1}
TINY_OPTIONS = {
    "retinanet_tiny": {"width": 8, "fpn_channels": 16},
    "retinanet_mobilenet_v2_fpn": _SMALL_PYRAMID,
    "retinanet_resnet50_fpn": _SMALL_PYRAMID,
}
