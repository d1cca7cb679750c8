"""Files of labelling tools: images to annotate with boxes to start from, and the boxes that came back."""

from .base import Annotation, AnnotationFormat, Suggestion

__all__ = ["Annotation", "AnnotationFormat", "Suggestion"]
