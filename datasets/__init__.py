"""Reads trajectory formats, writes one checked HDF5 store and serves batches of aligned windows."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.store import Store
from dreamset.datasets.writer import write_store

if TYPE_CHECKING:
    from dreamset.datasets.sampler import SequenceSampler, sequences
    from dreamset.datasets.sources.minari.source import MinariSource

__all__ = ["MinariSource", "RawEpisode", "SequenceSampler", "Store", "sequences", "write_store"]

# Imported on first use: samplers import PyTorch, readers import the libraries of their formats.
_LAZY = {"SequenceSampler": "sampler", "sequences": "sampler", "MinariSource": "sources.minari"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
