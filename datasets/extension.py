"""Extends a store, for the online data of fine-tuning."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.files import replaced_folder
from dreamset.datasets.episode import align
from dreamset.datasets.layout import write_manifest
from dreamset.datasets.shard_writer import ManifestBuilder, ShardWriter
from dreamset.datasets.sources.base import Source, read_all
from dreamset.datasets.splits import TRAIN
from dreamset.datasets.store import Store

SHARD_BYTES = 64 << 20


def extend(path: Path, source: Source, *, after: int) -> Store:
    """Keeps the first ``after`` episodes of the store at ``path`` and appends those of ``source`` as new shards.

    Kept shards are hard-linked where the file system allows it, otherwise copied. The folder is replaced atomically, so
    that a reader finds the old or the new store. All episodes are training data. Duplicates stay: a policy may repeat
    an episode.

    Args:
        path: the store's folder; it need not exist if ``after`` is 0.
        source: episodes with the columns of the store; may be empty, to drop the later episodes.
        after: number of episodes to keep. It must be the number of episodes after an earlier call, since shards are
            kept as a whole.

    Raises:
        UserError: if the store cannot be read, or an episode does not match the source's description.
    """
    before = Store.open(path) if after else None
    description = source.describe()
    with replaced_folder(path) as folder, ThreadPoolExecutor(1, thread_name_prefix="checksum") as hashing:
        shards = ShardWriter(folder, description, hashing, compression=None, shard_bytes=SHARD_BYTES)
        if before is not None:
            shards.adopt(before, after)
        for raw in read_all(source):
            shards.add(align(raw, description))
        shards.flush()
        splits = {TRAIN: np.arange(len(shards.rows))}
        manifest = ManifestBuilder(folder, description, shards, splits).manifest()
        settings: dict[str, Any] = {"split_settings": {"given": True}, "compression": None, "quarantined": []}
        write_manifest(folder, manifest | settings)
    return Store.open(path)
