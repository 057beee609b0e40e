"""What happened: any trajectory format in, one checked HDF5 store, batches of aligned windows out."""

from typing import TYPE_CHECKING, Any

from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.minari import MinariSource
from dreamset.datasets.store import Store
from dreamset.datasets.writer import write_store

if TYPE_CHECKING:
    from dreamset.datasets.sampler import SequenceSampler, sequences

__all__ = ["MinariSource", "RawEpisode", "SequenceSampler", "Store", "sequences", "write_store"]


def __getattr__(name: str) -> Any:
    """The samplers load PyTorch, which nobody needs who only writes or looks at datasets."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dreamset.datasets import sampler

    return getattr(sampler, name)
