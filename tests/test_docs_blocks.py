"""The pages of the documentation work from top to bottom: their blocks run in order, with the tiny preset."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.docs_blocks import Block, Reader, blocks

NOT_RUN = 4  # blocks of the documentation that are allowed not to run


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader in an empty folder; metrics are sent within each stage."""
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    return Reader(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def first_dream(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The project after the first tutorial."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "foreground")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        reader = Reader(tmp_path_factory.mktemp("first_dream"), patch)
        reader.follow(root / "docs/tutorials/first_dream.md")
        yield reader


@pytest.fixture
def continued(first_dream: Reader, reader: Reader) -> Reader:
    """A reader in a copy of that project."""
    shutil.copytree(first_dream.folder, reader.folder, dirs_exist_ok=True)
    reader.made = {
        reader.folder / file.relative_to(first_dream.folder): content for file, content in first_dream.made.items()
    }
    return reader


@pytest.mark.slow
def test_first_tutorial_ends_with_a_comparison_and_a_dream(first_dream: Reader) -> None:
    table = pd.read_csv(first_dream.folder / "runs/comparison/summary.csv")
    assert list(table["objective"]) == ["reconstruction"]
    assert (first_dream.folder / "runs/world_model/reconstruction-0/media/open_loop_image.mp4").exists()


@pytest.mark.slow
def test_tutorial_on_own_data_trains_on_every_kind_that_it_writes(root: Path, reader: Reader) -> None:
    reader.follow(root / "docs/tutorials/my_data.md")
    assert {path.name for path in (reader.folder / "data/stores").iterdir()} == {"cart", "cart_again", "dots"}


@pytest.mark.slow
def test_tutorial_on_objectives_compares_the_new_one_with_the_kept_one(root: Path, continued: Reader) -> None:
    kept = continued.folder / "runs/world_model/reconstruction-0/model/model.safetensors"
    before = kept.stat().st_mtime_ns
    continued.follow(root / "docs/tutorials/my_objective.md")
    table = pd.read_csv(continued.folder / "runs/comparison/summary.csv")
    assert set(table["objective"]) == {"reconstruction", "predict_action"}
    assert kept.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("page", ["datasets", "learning", "faq"])
def test_blocks_of_the_reference_pages_run_after_the_first_tutorial(root: Path, continued: Reader, page: str) -> None:
    continued.follow(root / f"docs/{page}.md")


@pytest.mark.slow
def test_tutorial_on_reuse_exports_and_serves_a_policy(root: Path, continued: Reader) -> None:
    names = continued.follow(root / "docs/tutorials/reuse.md")
    assert len(names["memory"]["action"][0]) == 1  # of the last answer of the service
    assert names["memory"].keys() > {"action"}


def test_nearly_every_block_of_the_documentation_runs(root: Path) -> None:
    left_out: list[Block] = [
        block for page in (root / "docs").rglob("*.md") for block in blocks(page) if block.reason is not None
    ]
    assert all(len(str(block.reason)) > 10 for block in left_out)
    assert len(left_out) <= NOT_RUN
