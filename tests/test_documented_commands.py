"""The commands of the documentation for existing models work after the quick start, in their order."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamset.pipeline import cli
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.tracking import delivery, embedded

pytestmark = pytest.mark.slow

PAGES = (("docs/models.md", "# Models: registry"),)  # tests/test_readme.py runs the blocks of the README
QUICK_START = ("collect", "ingest", "train-world-model", "learn-behavior", "evaluate")
DATA = ("collect", "ingest")  # stages whose results no other command changes
SMALL = ("preset=tiny", "evaluation.episodes=2", "evaluation.video_episodes=1", "finetuning.environment_steps=200")


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages have run by hand with ``preset=tiny`` and one objective."""
    folder = tmp_path_factory.mktemp("quick_start")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DREAMSET_TRACKING", "foreground")
        for stage in QUICK_START:
            cli.main([stage, *SMALL])
    return folder


@pytest.fixture
def project(quick_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, a copy of the quick start's."""
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    shutil.copytree(quick_start, tmp_path, dirs_exist_ok=True)
    return tmp_path


def commands(page: Path, heading: str) -> Iterator[list[str]]:
    """Arguments of every line that calls ``dreamset`` after a heading, but not of those that need code of the user."""
    section = page.read_text().partition(heading)[2]
    for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL):
        for line in re.findall(r"^dreamset (.+?)(?: +#.*)?$", block, re.MULTILINE):
            if "my_rewards" not in line:
                yield shlex.split(line)


def tiny(arguments: list[str]) -> list[str]:
    """The same command with the tiny preset and few episodes."""
    if arguments[0] == "models":
        return arguments
    return [*(text for text in arguments if not text.startswith("preset=")), *SMALL]


def test_commands_for_existing_models_work_after_the_quick_start(project: Path, root: Path) -> None:
    documented = [tiny(arguments) for page, heading in PAGES for arguments in commands(root / page, heading)]
    assert {arguments[0] for arguments in documented} >= {"models", "train-world-model", "adapt", "finetune", "export"}
    done: list[list[str]] = []
    for arguments in documented:
        if arguments not in done or arguments[0] not in DATA:
            cli.main(arguments)  # exits with an error if it fails
        done.append(arguments)
    client = delivery.client_of(embedded.uri())
    adapted = catalog.version(client, "pendulum_spin.world_model")
    assert adapted.tags["parent"].startswith("pendulum_state.world_model/")
    assert (project / "my_policy/README.md").exists()
