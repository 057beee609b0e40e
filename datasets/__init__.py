"""What happened: any trajectory format in, one checked HDF5 store, batches of aligned windows out."""

from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sampler import SequenceSampler, sequences
from dreamset.datasets.sources.minari import MinariSource
from dreamset.datasets.store import Store
from dreamset.datasets.writer import write_store

__all__ = ["MinariSource", "RawEpisode", "SequenceSampler", "Store", "sequences", "write_store"]
