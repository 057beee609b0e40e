"""``dreamset models``: the output of the tools, and models that are exported and imported as folders."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.saved_models import model_digest
from dreamset.pipeline.registry import catalog, reader
from dreamset.pipeline.registry.exchange import import_model
from dreamset.pipeline.registry.retrieval import from_registry
from dreamset.pipeline.tracking import delivery
from tests.pipeline.registered import fresh_store, policy, register, rewrite, world_model

TOOLS = ("list", "show", "compare", "export", "import")
FAMILY = "pendulum.world_model"
RANKED_BY = "validation/mean_reward_error_to_h5"

Words = Callable[..., list[list[str]]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    delivery.client_of(f"sqlite:///{folder / 'mlflow.db'}").search_experiments(max_results=1)
    return folder / "mlflow.db"


@pytest.fixture
def client(template: Path) -> Any:
    return fresh_store(template)


@pytest.fixture
def family(client: Any) -> catalog.Version:
    """Two world models, the second started from the first, and a policy of the second, evaluated."""
    first = register(client, world_model(Path("first")), validation__reward_error_h5=0.5)
    second = register(
        client, world_model(Path("second"), seed=1, parent={"digest": first.digest}), validation__reward_error_h5=0.25
    )
    folder = policy(Path("policy"), of=second.digest)
    learned = register(client, folder)
    catalog.measure(client, learned.digest, {"evaluation/return_iqm": 90.0})
    return second


@pytest.fixture
def words(capsys: pytest.CaptureFixture[str]) -> Words:
    """Runs a tool and returns the words of each line of its output."""

    def run(*arguments: str | Path) -> list[list[str]]:
        cli.main(["models", *map(str, arguments)])
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main(["models", *map(str, arguments)])
        assert stop.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        return next(line for line in captured.err.splitlines() if line.startswith("dreamset: error: "))

    return run


@pytest.mark.parametrize("tool", ["", *TOOLS])
def test_help_explains_every_tool(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["models", *tool.split(), "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert f"usage: dreamset models{f' {tool}' if tool else ''}" in output
    assert tool or all(name in output for name in (*TOOLS, "champion", "@latest", "MLFLOW_TRACKING_URI"))


def test_list_has_one_line_per_model(family: catalog.Version, words: Words) -> None:  # noqa: ARG001
    assert words("list") == [
        ["model", "versions", "latest", "champion", "ranked", "by"],
        ["pendulum.policy", "1", "1", "1", "evaluation/return_iqm", "=", "90"],
        [FAMILY, "2", "2", "2", RANKED_BY, "=", "0.25"],
    ]


def test_show_lists_the_lineage_of_a_policy_back_to_the_dataset(family: catalog.Version, words: Words) -> None:
    lines = words("show", "pendulum.policy")
    assert lines[1][:2] == ["1", "champion,"]
    assert ["evaluation/return_iqm", "90"] in lines
    chain = lines[lines.index(["came", "from", "run", "digest"]) + 1 :]
    data = ["trained", "on", "pendulum", "-", "d" * 64]
    first = model_digest(Path("first"))
    run = next(line for line in words("show", f"{FAMILY}/1") if line[:1] == [f"{FAMILY}/1"])[2]
    assert chain == [
        data,
        ["learned", "in", f"{FAMILY}/2", family.run, family.digest],
        data,
        ["started", "from", f"{FAMILY}/1", run, first],
        data,
    ]


def test_registry_is_read_without_mlflow_and_with_the_same_answers(
    client: Any, family: catalog.Version, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.delete_model_version(register(client, world_model(Path("deleted"), seed=5)).name, "3")
    tools = (["list"], ["show", FAMILY], ["show", "pendulum.policy"], ["compare", f"{FAMILY}/1", f"{FAMILY}/2"])
    for number in (1, 2):
        from_registry(FAMILY, version=number)  # fills the cache
    with monkeypatch.context() as without:
        without.setattr(delivery, "client_of", lambda _: pytest.fail("MLflow is loaded"))
        light = [words(*tool) for tool in tools]
    monkeypatch.setattr(reader, "REVISIONS", {})
    assert [words(*tool) for tool in tools] == light
    assert any(family.reference in line for line in light[2])


def test_list_loads_neither_mlflow_nor_pytorch(family: catalog.Version) -> None:  # noqa: ARG001
    code = (
        "import sys; from dreamset.pipeline import cli; cli.main(['models', 'list']); "
        "print(sorted({'mlflow', 'torch', 'sqlalchemy', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "versions", "latest", "champion", "ranked", "by"]
    assert lines[-1] == "[]"


def test_show_marks_a_model_that_is_not_registered(client: Any, words: Words) -> None:
    register(client, policy(Path("policy"), of="e" * 64))
    assert ["learned", "in", "not", "registered", "here", "-", "e" * 64] in words("show", "pendulum.policy@latest")


def test_show_takes_the_champion_by_default(
    client: Any,
    family: catalog.Version,  # noqa: ARG001 - it is in the store
    words: Words,
) -> None:
    register(client, world_model(Path("third"), seed=2), validation__reward_error_h5=0.75)
    lines = words("show", FAMILY)
    assert ["validation/reward_error_h5", "0.25"] in lines
    assert lines[3][-6:] == ["dreamer_v1", "reconstruction", "2", RANKED_BY, "=", "0.75"]
    assert [lines[2][1], lines[3][1]] == ["champion", "latest"]
    assert ["validation/reward_error_h5", "0.5"] in words("show", f"{FAMILY}/1")
    assert ["validation/reward_error_h5", "0.75"] in words("show", f"{FAMILY}@latest")


def test_compare_shows_figures_and_different_settings_only(family: catalog.Version, words: Words) -> None:
    lines = words("compare", f"{FAMILY}/1", "second")
    digest = model_digest(Path("first"))
    assert lines == [
        [f"{FAMILY}/1", "second"],
        ["digest", digest, family.digest],
        [RANKED_BY, "0.5", "-"],
        ["validation/reward_error_h5", "0.5", "-"],
        ["lineage.parent.digest", "-", digest],
        ["lineage.seed", "0", "1"],
    ]


def test_exported_and_imported_model_is_the_same_model(
    family: catalog.Version, words: Words, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words("export", f"{FAMILY}@champion", "out") == [
        ["exported", f"{FAMILY}/2", "to", "out", "(digest", f"{family.digest})"]
    ]
    assert model_digest(Path("out")) == family.digest
    assert json.loads(Path("out/figures.json").read_text()) == {"validation/reward_error_h5": 0.25, RANKED_BY: 0.25}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    other = fresh_store(template)
    answer = [["../out", "is", "registered", "as", "robot.model/1"]]
    assert words("import", "../out", "robot.model") == answer
    assert words("import", "../out", "robot.model") == answer  # once
    version = catalog.version(other, "robot.model", alias="champion")
    assert version.digest == family.digest
    assert catalog.figures(other, version) == {"validation/reward_error_h5": 0.25, RANKED_BY: 0.25}
    stored = Path(other.get_model_version(version.name, "1").source.removeprefix("file://"))
    assert {path.name for path in stored.iterdir()} == {"MLmodel", "model.json", "model.safetensors"}


def test_import_creates_the_store_and_export_never_overwrites(words: Words, refused: Callable[..., str]) -> None:
    folder = world_model(Path("model"))
    words("import", folder, "mine.world_model")
    words("export", "mine.world_model", "out")
    assert "out exists already and is not overwritten" in refused("export", "mine.world_model", "out")
    Path("out/figures.json").write_text('{"validation/kl": "low"}')
    assert "figures.json: validation/kl: not a number; fix the file" in refused("import", "out", "another.world_model")


def test_import_refuses_models_that_cannot_be_loaded(template: Path, refused: Callable[..., str]) -> None:
    client = fresh_store(template)
    register(client, policy(Path("policy"), of="e" * 64))
    folder = world_model(Path("model"))
    assert "pendulum.policy holds policy, not world_model" in refused("import", folder, "pendulum.policy")
    for name in ("a/1", "a@b", "a/b/c", "0" * 32):
        assert "name" in refused("import", folder, name).lower()
    rewrite(folder, architecture={"_target_": "os.system"})
    assert "names os.system" in refused("import", folder, "mine.world_model")
    rewrite(folder, kind="oracle")
    assert "holds a oracle; allowed: world_model, policy" in refused("import", folder, "mine.world_model")
    assert "nowhere/model.json does not exist" in refused("import", "nowhere", "mine.world_model")
    assert catalog.families(client) == ["pendulum.policy"]
    experiment = client.get_experiment_by_name("dreamset-imports")
    assert experiment is None  # nothing was sent


def test_model_without_lineage_is_refused() -> None:
    folder = world_model(Path("model"))
    rewrite(folder, lineage={"seed": 0})
    with pytest.raises(UserError, match=r"the lineage in model\.json is incomplete"):
        import_model(folder, "mine.world_model")


def test_tools_report_an_empty_registry(client: Any, words: Words, refused: Callable[..., str]) -> None:  # noqa: ARG001
    assert words("list")[0][:5] == ["No", "model", "is", "registered", "yet:"]
    assert "no model named 'x' is registered; registered: none yet" in refused("show", "x")
    assert "'runs/none/model' refers to no model" in refused("compare", "runs/none/model", "x")
    assert "is not a registered model" in refused("show", "0" * 32)
