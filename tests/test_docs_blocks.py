"""The pages of the documentation work from top to bottom: their blocks run in order, with the tiny preset."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dreamset.pipeline import cli
from dreamset.pipeline.commands import sweep
from tests.docs_blocks import Block, Reader, blocks

MENTIONED = re.compile(r"(?:^|`)dreamset ([a-z][a-z-]+)", re.MULTILINE)
NOT_RUN = 4  # blocks of the documentation that are allowed not to run
AFTER_FIRST = ("datasets", "learning", "faq", "commands")  # pages that assume the project of the first tutorial
FOLLOWED = ("index", "tutorials/first_dream", "tutorials/my_data", "tutorials/my_objective", "tutorials/reuse")
ELSEWHERE = {
    "dino_wm": "pipeline/test_dino_wm.py",
    "exploration": "pipeline/test_plan2explore.py",
    "frozen_features": "pipeline/test_frozen_features.py",
    "goals": "pipeline/test_goals.py",
    "imitation": "pipeline/test_latent_diffusion.py",
    "models": "test_documented_commands.py",
    "planning": "pipeline/test_acting.py",
    "reversibility": "pipeline/test_reversibility.py",
    "python": "pipeline/test_python_page.py",
}


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: Path) -> Reader:
    """A reader in an empty folder; metrics are sent within each stage."""
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    monkeypatch.setattr(sweep, "START", [str(warm / "python"), *sweep.START[1:]])
    return Reader(tmp_path, monkeypatch)


def followed(page: Path, folder: Path) -> Reader:
    """A reader who has followed a page, from an empty folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "foreground")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        reader = Reader(folder, patch)
        reader.follow(page)
    return reader


@pytest.fixture(scope="module")
def first_dream(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The project after the first tutorial."""
    return followed(root / "docs/tutorials/first_dream.md", tmp_path_factory.mktemp("first_dream"))


@pytest.fixture(scope="module")
def quick_start(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The project after the quick start of the first page."""
    return followed(root / "docs/index.md", tmp_path_factory.mktemp("quick_start"))


def continue_project(earlier: Reader, reader: Reader) -> Reader:
    """Gives the reader a copy of an earlier one's project."""
    shutil.copytree(earlier.folder, reader.folder, dirs_exist_ok=True)
    reader.made = {reader.folder / file.relative_to(earlier.folder): content for file, content in earlier.made.items()}
    return reader


@pytest.fixture
def continued(first_dream: Reader, reader: Reader) -> Reader:
    """A reader in a copy of the project after the first tutorial."""
    return continue_project(first_dream, reader)


@pytest.mark.slow
def test_first_tutorial_ends_with_a_comparison_and_a_dream(first_dream: Reader) -> None:
    table = pd.read_csv(first_dream.folder / "runs/comparison/summary.csv")
    assert list(table["objective"]) == ["reconstruction"]
    assert (first_dream.folder / "runs/world_model/reconstruction-0/media/open_loop_image.mp4").exists()


@pytest.mark.slow
def test_quick_start_of_the_first_page_compares_three_objectives(quick_start: Reader) -> None:
    assert len(pd.read_csv(quick_start.folder / "runs/comparison/summary.csv")) == 3


@pytest.mark.slow
def test_blocks_of_the_readme_run_in_their_order(root: Path, quick_start: Reader, reader: Reader) -> None:
    continue_project(quick_start, reader)  # whose results are those of `make repro`
    made = dict(reader.made)
    shutil.copy(root / "params.yaml", reader.folder)
    names = reader.follow(root / "README.md")
    assert reader.made == made
    assert names["dream"].features.shape[:2] == (16, 4)  # the start and fifteen steps of four windows
    assert len(pd.read_csv("runs/comparison/summary.csv")) == 3
    assert Path("my_policy/policy.json").exists()


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
@pytest.mark.parametrize("page", AFTER_FIRST)
def test_blocks_of_the_reference_pages_run_after_the_first_tutorial(root: Path, continued: Reader, page: str) -> None:
    continued.follow(root / f"docs/{page}.md")


@pytest.mark.slow
def test_tutorial_on_reuse_exports_and_serves_a_policy(root: Path, continued: Reader) -> None:
    names = continued.follow(root / "docs/tutorials/reuse.md")
    assert len(names["memory"]["action"][0]) == 1  # of the last answer of the service
    assert names["memory"].keys() > {"action"}


def test_every_page_with_code_is_run_by_a_test(root: Path) -> None:
    pages = {path.relative_to(root / "docs").with_suffix("").as_posix(): path for path in (root / "docs").rglob("*.md")}
    assert {name for name, path in pages.items() if list(blocks(path))} == {*AFTER_FIRST, *FOLLOWED, *ELSEWHERE}
    for name, test in ELSEWHERE.items():
        assert f"docs/{name}.md" in (root / "tests" / test).read_text()


def test_code_of_the_documentation_names_a_language_that_runs_or_is_text(root: Path) -> None:
    for path in (root / "docs").rglob("*.md"):
        fences = re.findall(r"^ *```(.*)$", path.read_text(), re.MULTILINE)
        assert set(fences[::2]) <= {"bash", "python", "yaml", "text"}, path.name
        assert set(fences[1::2]) <= {""}, path.name


def test_nearly_every_block_of_the_documentation_runs(root: Path) -> None:
    left_out: list[Block] = [
        block for page in (root / "docs").rglob("*.md") for block in blocks(page) if block.reason is not None
    ]
    assert all(len(str(block.reason)) > 10 for block in left_out)
    assert len(left_out) <= NOT_RUN


def test_block_that_no_rule_runs_is_an_error_with_its_place(reader: Reader, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```bash\nmkdir new\n```\n")
    with pytest.raises(AssertionError, match=r"page.md, line 3: no rule runs `mkdir new`"):
        reader.follow(page)


def test_blocks_run_in_order_save_their_files_and_stop_at_a_failing_line(reader: Reader, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# saved_here.py\nvalue = 3\n```\n\n```yaml\n# configs/a.yaml\nkey: 1\n```\n\n"
        "```python\nfrom saved_here import value\n```\n\n"
        "<!-- not run: it would fail in this test -->\n```python\nvalue = 0\n```\n\n"
        "```python\nassert value == 4, value\n```\n"
    )
    with pytest.raises(AssertionError, match="3"):
        reader.follow(page)
    assert (tmp_path / "configs/a.yaml").read_text().endswith("key: 1\n")


def pages(root: Path) -> list[Path]:
    """The README and every page of the documentation."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def test_every_command_that_a_page_mentions_exists(root: Path) -> None:
    known = set(cli.Parser().commands)
    mentioned = {(path.name, name) for path in pages(root) for name in MENTIONED.findall(path.read_text())}
    assert len(mentioned) > 30
    assert {(page, name) for page, name in mentioned if name not in known} == set()


def test_every_environment_variable_that_a_page_mentions_is_read_somewhere(root: Path) -> None:
    code = "".join(path.read_text() for path in (root / "pipeline").rglob("*.py"))
    mentioned = {name for path in pages(root) for name in re.findall(r"DREAMSET_[A-Z_]+", path.read_text())}
    assert len(mentioned) > 1
    assert {name for name in mentioned if f'"{name}"' not in code} == set()
