"""Episodes that were recorded or copied twice: one in training and one in validation would spoil the validation."""

import hashlib

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Episode
from dreamset.datasets.layout import columns_of

_LARGE = 1 << 16  # bytes of a column beyond which only some of its rows are looked at
_SAMPLED_ROWS = 8


class Fingerprints:
    """Remembers 16 bytes of every episode.

    Actions, rewards and vectors count completely, images by a few of their rows: two episodes that agree in all of
    that are the same one.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def add(self, episode: Episode, name: str) -> None:
        """Raises ``UserError`` naming both episodes if the same one was added before."""
        fingerprint = _fingerprint(episode)
        if fingerprint in self._seen:
            before = self._seen[fingerprint]
            raise UserError(f"{name}: is the same as {before}; remove one, or set on_invalid to quarantine")
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
