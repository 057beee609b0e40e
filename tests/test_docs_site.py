"""The site of the documentation builds without a warning, needs no network, and describes the code as it is."""

import html
import importlib.util
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

import dreamset
from dreamset.pipeline import cli
from dreamset.pipeline.config.settings import schema_keys
from dreamset.pipeline.report.metrics import METRICS

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
ONLY_NAMED = {"canonical", "next", "prev"}  # kinds of link that a browser does not load


@pytest.fixture(scope="module")
def pages(root: Path) -> ModuleType:
    """The module that generates pages."""
    spec = importlib.util.spec_from_file_location("reference_pages", root / "scripts/reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning, such as a link to a missing heading, ends the build with an error."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loads(HTMLParser):
    """Collects the addresses that a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get(LOADING.get(tag, ""))
        if address and values.get("rel") not in ONLY_NAMED:
            self.addresses.append(address)


def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    loaded = []
    for page in site.rglob("*.html"):
        parser = Loads()
        parser.feed(page.read_text(encoding="utf-8"))
        loaded += [(page.name, address) for address in parser.addresses]
    styles = [text for path in site.rglob("*.css") for text in re.findall(r"url\(([^)]+)\)", path.read_text())]
    assert len(loaded) > 50
    assert [entry for entry in loaded if re.match(r"(https?:)?//", entry[1])] == []
    assert [address for address in styles if "http" in address[:6]] == []


def test_no_page_has_a_diagram_or_formula_whose_library_is_fetched(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8"), page.name
        assert 'class="arithmatex"' not in page.read_text(encoding="utf-8"), page.name


def test_search_finds_settings_metrics_and_public_names(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    text = " ".join(entry["title"] + entry["text"] for entry in index["docs"])
    for word in ("imagination.horizon", "evaluation/return_iqm", "SequenceSampler", "train-world-model"):
        assert word in text, word


def test_every_public_name_has_its_docstring_on_the_site(site: Path) -> None:
    text = html.unescape((site / "reference/api.html").read_text(encoding="utf-8"))
    for name in dreamset.PUBLIC:
        first = (getattr(dreamset, name).__doc__ or "").strip().split(".")[0].split("`")[0].split("\n")[0]
        assert f'id="{name.lower()}"' in text, name
        assert first[:30] in text, name


def test_settings_page_lists_every_key_of_the_defaults_with_type_and_comment(root: Path, pages: ModuleType) -> None:
    page = pages.settings()
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE))
    keys = {key for key in schema_keys() if key.split(".")[0] in ("network", "ingest", "validation", "evaluation")}
    inner = {key for key in keys if key.startswith("validation.probe_decoder.")}  # in one line of the file
    sections = {"network", "ingest", "validation", "evaluation"}
    assert keys - inner - sections <= rows.keys()
    assert rows["evaluation.confidence"].split(" | ")[1] == "number at least 0, at most 1"
    assert "`lzf`, `gzip`, `lz4`, `zstd` or null" in rows["ingest.compression"]
    assert "windows" in rows["world_model_training.batch.size"]
    for path in (root / "configs").rglob("*.yaml"):
        if path.name != "config.yaml":
            assert f"#### `{path.stem}`" in page


def test_metrics_page_has_the_words_of_every_metric(pages: ModuleType) -> None:
    page = pages.metrics()
    assert page.count("\n| ") == len(METRICS) + 1  # and the header
    for metric in METRICS:
        assert metric.meaning in page
    assert "| `validation/reward_error_hK` | reward error +K |" in page
    assert "| `evaluation/return_iqm_{low,high}` | return (IQM), low or high |" in page
    assert "(\\d" not in page


def test_commands_page_has_every_command(pages: ModuleType) -> None:
    page = pages.commands()
    named = list(cli.Parser().commands)
    assert {"train-world-model", "init", "data", "models"} <= set(named)
    for command in named:
        assert f"## dreamset {command}\n" in page, command
    assert "## dreamset data verify\n" in page
