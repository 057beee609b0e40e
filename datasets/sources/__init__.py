"""Readers of trajectory formats: one file per format, all of them a ``Source``."""

from dreamset.datasets.sources.base import Source, SourceDescription

__all__ = ["Source", "SourceDescription"]
