"""``dreamset list``, ``dreamset completion`` and the help page: what a user can choose."""

import subprocess
import sys
from pathlib import Path

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.groups import description, first_sentence, groups
from dreamset.pipeline.config.project import MARK
from dreamset.pipeline.tools.completion import CODE, candidates
from dreamset.pipeline.tools.listing import GROUPS, OTHERS, entries, table

ROOT = Path(__file__).parents[2]


def test_every_yaml_file_of_every_group_is_listed_with_a_description() -> None:
    for group, names in groups().items():
        folder = ROOT / "configs" / group
        assert list(names) == sorted(path.stem for path in folder.glob("*.yaml"))
        assert all(text.strip() and "@package" not in text for text in entries(group).values()), group
    assert set(entries(None)) == {*groups(), *OTHERS}
    assert set(GROUPS) == set(groups())


@pytest.mark.parametrize("name", ["datasets", "behaviours", "world-models", "stages", "environments", "metrics"])
def test_groups_are_found_in_the_plural_and_with_dashes(name: str) -> None:
    assert len(entries(name)) > 2


def test_unknown_group_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"GROUP is 'prests'; allowed: .*; did you mean preset\?"):
        entries("prests")


def test_project_lists_its_own_files_beside_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / MARK).parent.mkdir()
    (tmp_path / MARK).write_text("saved_models_may_use: []\n")
    (tmp_path / "configs/objective").mkdir()
    (tmp_path / "configs/objective/mine.yaml").write_text("_target_: mine.Mine\n")
    (tmp_path / "configs/objective/reward_only.yaml").write_text("# Replaced here. More.\n")
    listed = entries("objective")
    assert listed["mine"] == ""
    assert listed["reward_only"] == "Replaced here."
    assert listed["reconstruction"].startswith("The state must reconstruct")


def test_description_is_the_comment_or_else_the_docstring_of_the_target(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# @package _global_\n# One line\n# and the next, e.g. this (Hafner et al. 2020). More.\nkey: 1\n")
    assert description(path) == "One line and the next, e.g. this (Hafner et al. 2020)."
    path.write_text("# @package _global_\n_target_: dreamset.core.errors.UserError\n")
    assert description(path) == first_sentence(UserError.__doc__ or "") != ""
    path.write_text("_target_: no.such.Module\n")
    assert description(path) == ""


def test_list_in_a_pipe_has_a_name_a_tab_and_a_description() -> None:
    assert table({"a": "First.", "b": ""}, None) == "a\tFirst.\nb"


@pytest.mark.parametrize("width", [30, 60, 200])
def test_list_in_a_terminal_fits_its_width(width: int) -> None:
    lines = table(entries("objective"), width).splitlines()
    assert max(map(len, lines)) <= max(width, *map(len, entries("objective")))
    joined = " ".join(" ".join(lines).split())
    assert all(name in joined for name in entries("objective"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train-world-model"]),
        (["ingest", "dataset=pendulum_s"], ["dataset=pendulum_spin", "dataset=pendulum_state"]),
        (["ingest", "world_model/ensemble/i"], ["world_model/ensemble/input="]),
        (["ingest", "nothing=x"], []),
        (["list", "sta"], ["stages"]),
        (["ui", "dataset="], []),
        (["show", "learn"], ["learn-behavior"]),
        (["show", "learn-behavior", "preset=ti"], ["preset=tiny"]),
    ],
)
def test_completion_offers_commands_groups_and_names(words: list[str], expected: list[str]) -> None:
    assert candidates(words) == expected


def test_bash_completes_the_name_behind_the_equals_sign(tmp_path: Path) -> None:
    program = tmp_path / "dreamset"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from dreamset.pipeline.cli import main; main()" "$@"\n')
    program.chmod(0o755)
    script = (
        f"{CODE['bash']}\nPATH={tmp_path}:$PATH\nCOMP_LINE='dreamset ingest preset=ti'\nCOMP_POINT=${{#COMP_LINE}}\n"
        '_dreamset 2>/dev/null\necho "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["tiny"], done.stderr


@pytest.mark.parametrize("arguments", [[], ["list", "objectives"], ["completion", "bash", "--words", "ingest", ""]])
def test_help_list_and_completion_load_no_large_library(arguments: list[str]) -> None:
    code = (
        "import sys, atexit\nfrom dreamset.pipeline import cli\n"
        "large = {'torch', 'mlflow', 'hydra', 'omegaconf', 'pandas', 'matplotlib', 'h5py', 'rich'}\n"
        "atexit.register(lambda: print('loaded', sorted(large & sys.modules.keys())))\n"
        f"cli.main({arguments})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_dreamset_alone_prints_every_command_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([])
    assert not stop.value.code
    page = capsys.readouterr().out
    parser = cli.Parser()
    assert [name for group in parser.texts.values() for name in group] == list(parser.commands)
    assert all(f"\n  {name} " in page for name in parser.commands)
    assert all(f"\n{title}:\n" in page for title in cli.COMMANDS)


@pytest.mark.parametrize("width", [60, 100])
def test_help_page_fits_the_terminal(width: int) -> None:
    assert max(map(len, cli.command_list(cli.Parser().texts, width).splitlines())) <= width


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("preset=smal", "preset is 'smal'; allowed: dino_wm, .*, tiny; did you mean preset=small\\?$"),
        ("objective=zzz", "objective is 'zzz'; allowed: barlow_twins, .*; see `dreamset list objective`$"),
        ("world_model/ensemble=prors", "world_model/ensemble is 'prors'; allowed: one_step, priors; did .*=priors\\?$"),
        ("prset=tiny", "prset is unknown; did you mean preset\\?$"),
        ("behavior.horizn=10", "behavior.horizn is unknown; did you mean behavior.horizon\\?$"),
    ],
)
def test_misspelt_choice_or_key_names_the_nearest(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"^configuration: {expected}"):
        compose([override])
