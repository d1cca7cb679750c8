"""The section of a settings file that says how long annotating takes."""

from ..parameters import NonNegative
from .sections import Section


class AnnotationTime(Section):
    """Seconds that annotating takes: by default the medians of Su, Deng and Fei-Fei.

    Crowdsourcing annotations for visual object detection, AAAI workshop on human computation, 2012: 25.5 s to draw a
    box, 7.8 s to see that an image is covered.
    """

    per_image: NonNegative = 7.8
    """Seconds to look an image through."""
    per_box: NonNegative = 25.5
    """Seconds to draw a box."""

    def hours(self, images: float, boxes: float) -> float:
        """Return how long so many images with so many boxes take."""
        return (self.per_image * images + self.per_box * boxes) / 3600
