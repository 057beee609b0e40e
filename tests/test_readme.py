"""The examples of the README and its commands, links and tables; test_docs_blocks.py runs its blocks."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from dreamset.core.records import total_loss
from dreamset.datasets.sources.minari.source import MinariSource
from dreamset.pipeline.commands import adapt
from dreamset.pipeline.commands.stages import STAGES
from dreamset.pipeline.config.compose import combinations, compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.stages import collect, resolve
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import Collect
from dreamset.pipeline.tools import data as data_tools
from dreamset.pipeline.tools import models as model_tools
from tests.builders import tiny_batch, tiny_model
from tests.docs_blocks import MAKE, blocks

Block = Callable[[str, str], str]
COMMANDS = (*STAGES, "show", "adapt", "data", "models", "export", "results", "init", "list")


@pytest.fixture
def block(root: Path) -> Block:
    """``block("yaml", "name: my_robot")``: the README's only yaml block that contains these words."""
    text = (root / "README.md").read_text()

    def find(language: str, words: str) -> str:
        blocks = [code for code in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if words in code]
        assert len(blocks) == 1, f"{len(blocks)} {language} blocks contain {words!r}"
        return str(blocks[0])

    return find


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """A clone's configuration."""
    shutil.copytree(root / "configs", tmp_path / "configs")
    return tmp_path


def test_example_objective_of_the_readme_gives_losses(
    block: Block, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, settings = block("python", "class PredictAction"), block("yaml", "PredictAction")
    (project / "predict_action.py").write_text(code)
    monkeypatch.syspath_prepend(str(project))
    own = settings.replace("dreamset.objectives.predict_action", "predict_action")
    (project / "configs/objective/predict_action.yaml").write_text(own)
    config = compose(["preset=tiny", "objective=predict_action"])
    model = tiny_model()
    objective = build_part(config["objective"], model)
    batch = tiny_batch()
    rollout = model.observe(batch, torch.Generator().manual_seed(0))
    losses = objective(rollout, batch, model)
    total_loss(model.losses(rollout, batch) | losses).backward()
    assert losses["predict_action"].value.shape == batch.reward.shape
    assert (losses["predict_action"].value[:, 0] == 0).all()
    assert (losses["predict_action"].value[:, 1:] > 0).any()
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_benchmark_page_has_the_best_scores_of_the_recorded_verdicts(root: Path) -> None:
    verdicts = (root / "benchmarks/offline_suite/tables.md").read_text().partition("| task | best of dreamset")[2]
    row = r"^\| (\w+) \| (\w+) (-?[\d.]+) \([^|]+\| (\w+): (\w+) (-?[\d.]+) \([^|]+\| \w+: cloning (-?[\d.]+) "
    marks = {"above": "▲", "overlaps": "=", "below": "▼"}
    expected = [
        f"| {task} | {score} ({method}) | {rival_score} ({rival}) | {cloning} | {marks[verdict]} |"
        for task, method, score, verdict, rival, rival_score, cloning in re.findall(row, verdicts, re.MULTILINE)
    ]
    assert len(expected) == 9
    assert "\n".join(expected) in (root / "docs/benchmarks.md").read_text()


def test_example_dataset_of_the_readme_is_collected_and_read(block: Block, project: Path) -> None:
    recorded = stages.collect(compose(["preset=tiny", "dataset=pendulum_state"]))
    path = collect.record(Collect.of(**recorded), project / "minari")
    own = block("yaml", "name: my_robot").replace("/data/minari/my-robot/expert-v0", str(path))
    own = own.replace("observations: [image]", "observations: [state]")
    (project / "configs/dataset/my_robot.yaml").write_text(own)
    config = compose(["dataset=my_robot", "preset=small"])
    collect.run(stages.collect(config))
    assert Path("data/recordings/my_robot/source.json").exists()
    source = build_part(stages.ingest(config)["source"])
    assert isinstance(source, MinariSource)
    assert source.episode_count == 12
    assert stages.evaluate(config)["environment"] is None


def test_params_in_the_readme_equal_the_file(block: Block, root: Path) -> None:
    documented = yaml.safe_load(block("yaml", "preset: small "))
    assert documented == yaml.safe_load((root / "params.yaml").read_text())
    assert set(documented) == set(resolve.Params.model_fields)


def test_commands_in_the_readme_exist(root: Path) -> None:
    text, datasets = (joined(root / name) for name in ("README.md", "docs/datasets.md"))
    makefile = (root / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", text)) - {"lists"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in set(re.findall(r"^dreamset ([a-z][a-z-]+)", text, re.MULTILINE)):
        assert command in COMMANDS
    tools = re.findall(r"^dreamset data +(.+?)(?: +#.*)?$", text + datasets, re.MULTILINE)
    assert tools
    for tool in tools:
        data_tools.parser().parse_args(shlex.split(tool))  # exits if there is no such tool or option
    stage_names = set(yaml.safe_load((root / "dvc.yaml").read_text())["stages"])
    assert set(re.findall(r"dvc repro ([a-z_]+)", text)) <= stage_names


def joined(page: Path) -> str:
    """The text, with every command in one line."""
    return re.sub(r" *\\\n *", " ", page.read_text())


def commands(root: Path, *names: str) -> list[list[str]]:
    """Arguments of every line in the documentation that calls one of these commands."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    lines = [line for page in pages for line in re.findall(r"^dreamset (.+?)(?: +#.*)?$", joined(page), re.MULTILINE)]
    split = [shlex.split(line.removesuffix("...")) for line in lines]
    return [arguments for arguments in split if arguments[0] in names]


def test_overrides_in_the_documentation_compose(root: Path) -> None:
    stage_commands = commands(root, "train-world-model", "adapt", "learn-behavior", "evaluate", "export")
    assert len(stage_commands) > 8
    pages = "".join(page.read_text() for page in (root / "docs").glob("*.md"))
    written_there = {f"dataset={name}" for name in re.findall(r"^# configs/dataset/(\w+)\.yaml$", pages, re.MULTILINE)}
    for command, *arguments in stage_commands:
        if written_there & {*arguments}:
            continue  # tests/test_docs_blocks.py runs these commands after the page has written the file
        defaults = adapt.ADAPT if command == "adapt" else ()
        overrides = [*defaults, *(argument for argument in arguments if re.match(r"\+?[a-z_/.]+=", argument))]
        for single in combinations(overrides) if "-m" in arguments else [overrides]:
            compose(single)


def test_model_tools_in_the_documentation_parse(root: Path) -> None:
    tools = commands(root, "models")
    assert len(tools) > 4
    for _, *arguments in tools:
        model_tools.parser().parse_args(arguments)


def test_table_of_choices_is_complete(root: Path) -> None:
    table = (root / "docs/learning.md").read_text().partition("| group |")[2].partition("```")[0]
    stated: set[str] = set()
    for row in re.findall(r"^\| `.*\|$", table, re.MULTILINE):
        stated |= set(re.findall(r"`([\w/+]+)`", row))
    trainings = ("behavior_training", "world_model_training")
    for group in ("world_model", "behavior", "reward", "preset", *trainings, "adaptation"):
        for path in (root / "configs" / group).rglob("*.yaml"):
            assert path.stem in stated or path.stem == "null", path


def images(page: Path) -> list[str]:
    """The images of a page: of Markdown, of ``<img>`` and of ``<source>`` (for another colour scheme)."""
    text = page.read_text()
    tags = re.findall(r"<(?:img|source)\s[^>]*?\b(?:src|srcset)=\"([^\"]+)\"", text)
    return [*re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text), *tags]


def test_images_of_a_page_are_those_of_markdown_and_of_tags(tmp_path: Path) -> None:
    source = '<source media="(prefers-color-scheme: dark)" srcset="b.png">'
    (tmp_path / "page.md").write_text(f'![a](a.png)\n<picture>\n  {source}\n  <img alt="c"\n src="c.gif">\n')
    assert images(tmp_path / "page.md") == ["a.png", "b.png", "c.gif"]


def test_images_are_files_of_their_kind(root: Path) -> None:
    kinds = {".png": b"\x89PNG\r\n", ".gif": b"GIF89a"}
    pages = [root / "README.md", *root.glob("benchmarks/*/*.md")]
    paths = [page.parent / name for page in pages for name in images(page)]
    assert len(paths) > 6
    for path in paths:
        assert path.read_bytes().startswith(kinds[path.suffix]), path


def test_dark_images_have_the_size_of_the_light_ones(root: Path) -> None:
    text = "".join(page.read_text() for page in (root / "README.md", root / "benchmarks/offline_suite/README.md"))
    blocks = re.findall(r"<picture>.*?</picture>", text, re.DOTALL)
    assert blocks
    for block in blocks:
        dark, light = re.findall(r"(?:src|srcset)=\"(?:\.\./)*([^\"]+)\"", block)
        assert dark == light.replace(".png", "_dark.png")
        with Image.open(root / dark) as first, Image.open(root / light) as second:
            assert first.size == second.size


def test_animation_is_on_the_first_screen_and_the_comparison_follows_the_choices(root: Path) -> None:
    text = (root / "README.md").read_text()
    places = [text.index(words) for words in ("docs/dream.gif", "## Start", "## What to choose", "docs/comparison.png")]
    assert places == sorted(places)
    assert text[: places[0]].count("\n") < 10


def test_every_image_of_the_readme_says_in_words_what_it_shows(root: Path) -> None:
    text = (root / "README.md").read_text()
    words = re.findall(r"!\[([^\]]*)\]", text) + re.findall(r"<img\s[^>]*?\balt=\"([^\"]*)\"", text)
    assert len(words) == len(re.findall(r"!\[|<img\b", text))
    assert all(len(each) > 20 for each in words)


def test_blocks_of_the_readme_that_do_not_run_have_a_reason(root: Path) -> None:
    left_out = [block.reason for block in blocks(root / "README.md") if block.reason is not None]
    assert left_out == ["downloads a dataset", "needs a git repository with commits"]


def test_targets_that_the_reader_of_the_blocks_knows_are_those_of_the_makefile(root: Path) -> None:
    recipes = dict(re.findall(r"^([a-z]+):[^\n]*\n((?:\t.*\n)+)", (root / "Makefile").read_text(), re.MULTILINE))
    for target, lines in MAKE.items():
        assert all(f"@{line}\n" in recipes[target] for line in lines), target
    assert "dvc repro && dreamset results" in recipes["demo"]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub derives them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_relative_links_lead_to_files_and_headings(root: Path) -> None:
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("benchmarks/*/*.md")]
    generated = root / "docs/reference"  # the build of the site checks links to these pages
    found = {page: [*re.findall(r"\]\(([^)\s]+)\)", page.read_text()), *images(page)] for page in pages}
    links = [(page, link) for page, of_page in found.items() for link in of_page]
    broken = []
    for page, link in links:
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        if (
            "://" not in link
            and generated not in target.resolve().parents
            and not (target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target)))
        ):
            broken.append(f"{page.relative_to(root)}: {link}")
    assert len(links) > 30
    assert broken == []


def test_committed_results_are_finite(root: Path) -> None:
    table = pd.read_csv(root / "benchmarks/offline_suite/objectives/pendulum_pixels.csv")
    assert np.isfinite(table["return_iqm"]).all()


def test_comparison_in_the_readme_is_that_of_the_recorded_runs(root: Path) -> None:
    tables = (root / "benchmarks/offline_suite/objectives/tables.md").read_text()
    rows = [line for line in tables.partition("puck_pixels")[0].splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert "\n".join(rows) in (root / "README.md").read_text()


def test_documented_datasets_are_those_with_a_yaml_file(root: Path) -> None:
    table = (root / "docs/datasets.md").read_text().partition("## Formats")[2].partition("## Checks")[0]
    named = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == {path.stem for path in (root / "configs/dataset").glob("*.yaml")}


def test_transforms_of_the_documentation_can_be_built(root: Path) -> None:
    text = (root / "docs/datasets.md").read_text()
    blocks = re.findall(r"```yaml\n(transforms:.*?)```", text, re.DOTALL)
    nodes = [node for block in blocks for node in yaml.safe_load(block)["transforms"]]
    assert {"AsImage", "Resize"} <= {node["_target_"].rpartition(".")[2] for node in nodes}
    for node in nodes:
        if "function" not in node:
            build_part(node)
