"""Every reader takes paths as users write them."""

from collections.abc import Callable
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.datasets.sources.d3rlpy import D3rlpySource
from dreamset.datasets.sources.d4rl import D4RLSource
from dreamset.datasets.sources.dreamer import DreamerSource, DreamerV3Source, VD4RLSource
from dreamset.datasets.sources.lerobot import LeRobotSource
from dreamset.datasets.sources.mapped.source import MappedSource
from dreamset.datasets.sources.minari import MinariSource

READERS: dict[str, Callable[[str], Any]] = {
    **{
        reader.__name__: reader
        for reader in (
            D3rlpySource,
            D4RLSource,
            DreamerSource,
            DreamerV3Source,
            LeRobotSource,
            MinariSource,
            VD4RLSource,
        )
    },
    "MappedSource": lambda path: MappedSource(path, observations={"x": "x"}, action="a", reward=None, terminal=None),
    "Store": Store.open,
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_look_in_the_home_folder_for_a_path_that_starts_with_it(reader, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=str(tmp_path / "nothing")):
        READERS[reader]("~/nothing")
