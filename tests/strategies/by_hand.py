"""What the strategies' tests compute independently, and the detector that they look at."""

from miaod_plugin import ObjectDetector


def trained(data, count, steps, seed=0):
    """Return a tiny detector that finds something, trained on the first images."""
    recipe = {"batch_size": 4, "optimizer": "adamw", "learning_rate": 0.004, "random_state": seed}
    detector = ObjectDetector("retinanet_tiny", data.classes, max_steps=steps, **recipe)
    return detector.fit(data.X[:count], data.y[:count])


def iou(a, b):
    width, height = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    areas = [(float(x[2]) - x[0]) * (float(x[3]) - x[1]) for x in (a, b)]
    return width * height / (sum(areas) - width * height)
