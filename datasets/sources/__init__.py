"""Readers of trajectory formats: one file or folder per format, each with a ``Source``."""

from dreamset.datasets.sources.base import Source, SourceDescription

__all__ = ["Source", "SourceDescription"]
