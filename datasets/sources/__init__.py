"""Readers of trajectory formats: one file per format, all of them a ``Source``."""

from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.sources.minari import MinariSource

__all__ = ["MinariSource", "Source", "SourceDescription"]
