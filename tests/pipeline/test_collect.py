"""The state of a dataset that is not recorded here changes with its files."""

import json
from pathlib import Path

from dreamset.pipeline.stages.collect import register


def state(source: Path, output: Path) -> str:
    register([source], output)
    return str(json.loads((output / "source.json").read_text())["state"])


def test_changed_file_behind_a_link_changes_the_state(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0.npz").write_bytes(b"1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "run").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cycle").symlink_to(tmp_path / "data")
    before = state(tmp_path / "data", tmp_path / "out")
    assert state(tmp_path / "data", tmp_path / "out") == before
    (tmp_path / "elsewhere" / "0.npz").write_bytes(b"22")
    assert state(tmp_path / "data", tmp_path / "out") != before


def test_state_of_a_single_file_is_that_of_its_content(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    file.write_bytes(b"1")
    before = state(file, tmp_path / "out")
    file.write_bytes(b"22")
    assert state(file, tmp_path / "out") != before
