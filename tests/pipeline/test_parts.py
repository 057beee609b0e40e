"""A dataset of several sources in the pipeline: what it depends on."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.commands.announcement import inputs_of
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.source_paths import source_paths
from dreamset.pipeline.stages import collect
from dreamset.pipeline.stages import table as stages

MAPPED = (
    "{_target_: dreamset.datasets.sources.mapped.MappedSource, observations: {path: x}, reward: null, terminal: null"
)
PARTS = (
    "dataset.source.parts={"
    f"a: {{source: {MAPPED}, path: a, action: act}}}}, b: {{source: {MAPPED}, path: b, action: null}}}}}}"
)


def recorded_state() -> str:
    collect.run(stages.collect(compose(["dataset=parts", PARTS])))
    written = json.loads(Path("data/recordings/parts/source.json").read_text())
    assert written["paths"] == ["a", "b"]
    assert written["files"] == 2
    return str(written["state"])


def test_change_of_any_part_changes_the_state_of_the_dataset() -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
        np.savez(Path(name) / "0.npz", x=np.zeros((3, 2)))
    states = [recorded_state(), recorded_state()]
    os.utime(Path("b/0.npz"), (1, 1))
    states.append(recorded_state())
    assert states[0] == states[1] != states[2]
    Path("b/0.npz").unlink()
    Path("b").rmdir()
    with pytest.raises(UserError, match=r"dataset\.source\.path b does not exist"):
        recorded_state()


def test_every_part_is_announced_as_an_input() -> None:
    config = compose(["dataset=parts", PARTS])
    assert inputs_of(stages.collect(config)) == ["a", "b"]
    assert inputs_of(stages.ingest(config)) == ["a", "b"]


def test_paths_are_those_of_readers_and_no_columns() -> None:
    reader = {"_target_": "x", "path": "one", "observations": {"path": "two"}}
    assert source_paths(reader) == ["one"]
    assert source_paths({**reader, "path": None}) == []
    assert source_paths({"_target_": "y", "parts": {"path": {"source": reader}, "c": {"source": reader}}}) == ["one"]
