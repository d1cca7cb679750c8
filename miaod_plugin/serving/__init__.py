"""A project as a machine-learning backend of Label Studio."""

from .backend import Backend
from .server import serve

__all__ = ["Backend", "serve"]
