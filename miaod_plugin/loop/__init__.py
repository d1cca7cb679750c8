"""A project on one's own photographs: ask, annotate, train, and again."""

from .project import Project

__all__ = ["Project"]
