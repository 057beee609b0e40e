"""Reads Minari datasets of all versions."""

from dreamset.datasets.sources.minari.source import MinariSource

__all__ = ["MinariSource"]
