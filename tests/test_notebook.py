"""The notebook in examples/ runs on a small store, with and without images, and is committed without outputs."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from dreamset.pipeline import cli


def cells(root: Path) -> list[dict[str, Any]]:
    """The code cells of the notebook."""
    notebook = json.loads((root / "examples/explore_a_store.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("dataset", ["pendulum_pixels", "pendulum_state"])
def test_notebook_tells_what_the_store_holds(root: Path, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "off")
    matplotlib.use("agg")
    small = (f"dataset={dataset}", "preset=tiny")
    cli.main(["collect", *small])
    cli.main(["ingest", *small])
    names: dict[str, Any] = {}
    for cell in cells(root):
        exec("".join(cell["source"]), names)
    store, episodes, rows = names["store"], names["episodes"], names["rows"]
    assert len(episodes) == 12
    assert episodes["training"].sum() == len(store.split("train"))
    assert rows["reward"].sum() == pytest.approx(episodes["return"].max(), rel=1e-4)
    assert len(rows) == episodes["steps"][names["best"]] + 1


def test_notebook_is_committed_without_outputs(root: Path) -> None:
    assert cells(root)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(root))
