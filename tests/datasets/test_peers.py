"""Readers of other libraries on Dreamset's shards, if installed."""

import numpy as np
import pytest


def test_stable_worldmodel_reads_a_shard(make_store):
    data = pytest.importorskip("stable_worldmodel.data", reason="stable-worldmodel is not installed")
    store = make_store(9, 7)
    theirs = data.HDF5Dataset(path=store.path / "shard-00000.h5", num_steps=4, keys_to_load=store.columns)
    (window,) = theirs.load_chunk([1], [2], [6])
    ours = store.read(1, 2, 6)
    for name in ("state", "action", "reward", "is_first", "privileged.clock"):
        np.testing.assert_array_equal(np.asarray(window[name]).reshape(ours[name].shape), ours[name])
    assert len(theirs) == (10 - 4 + 1) + (8 - 4 + 1)  # every window inside an episode, episodes of 10 and 8 rows
