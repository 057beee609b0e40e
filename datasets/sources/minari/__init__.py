"""Minari datasets, whichever version wrote them."""

from dreamset.datasets.sources.minari.source import MinariSource

__all__ = ["MinariSource"]
