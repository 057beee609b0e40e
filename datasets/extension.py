"""Stores that grow: what a policy collects online, round after round."""

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
    """The first ``after`` episodes of the store at ``path``, then those of ``source``, as new shards.

    The shards that stay are not copied, where the file system can link. The folder is replaced at once, so that a
    reader finds the old store or the new one. All episodes train, and equal ones stay: a policy may repeat itself.

    Args:
        path: the store's folder; with ``after`` 0 there need be none.
        source: episodes with the columns of the store; none, to forget what comes later.
        after: how many episodes stay. A whole number of earlier calls' episodes, since a shard stays or goes.

    Raises:
        UserError: if the store cannot be read, or an episode is not what the source promised.
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
