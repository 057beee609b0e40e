"""Reads npz and HDF5 files of any layout."""

from dreamset.datasets.sources.mapped.source import MappedSource

__all__ = ["MappedSource"]
