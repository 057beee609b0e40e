"""Detects duplicate episodes. A duplicate in both splits would leak training data into validation."""

import hashlib

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Episode
from dreamset.datasets.layout import columns_of

_LARGE = 1 << 16  # bytes; of a larger image column only some rows are hashed
_SAMPLED_ROWS = 8


class Fingerprints:
    """Keeps a hash of 16 bytes for every episode.

    The hash covers all actions, rewards and vectors, and a few rows of large image columns. Episodes with equal hashes
    count as duplicates.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def add(self, episode: Episode, name: str) -> None:
        """Raises a ``UserError`` that names both episodes if an equal episode was added before."""
        fingerprint = _fingerprint(episode)
        if fingerprint in self._seen:
            before = self._seen[fingerprint]
            raise UserError(f"{name}: equals {before}; remove one of them, or set on_invalid to quarantine")
        self._seen[fingerprint] = name


def _fingerprint(episode: Episode) -> bytes:
    content = hashlib.blake2b(digest_size=16)
    for name, values in columns_of(episode).items():
        content.update(f"{name}{values.shape}".encode())
        rows = values
        if values.nbytes > _LARGE and values.dtype == np.uint8:
            rows = values[np.linspace(0, len(values) - 1, _SAMPLED_ROWS).astype(np.int64)]
        content.update(np.ascontiguousarray(rows).data)
    return content.digest()
