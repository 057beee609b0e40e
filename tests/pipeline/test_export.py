"""An exported policy acts exactly as the saved policy does, without this package."""

import json
import os
import re
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from torch.torch_version import TorchVersion

from dreamset.behaviors.planning.planner import Planned
from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.core.spec import ActionSpec, ArraySpec, VectorStatistics
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.saved_models import load_behavior, load_world_model, model_digest
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.export import program as export
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from tests.builders import HIGH, LOW, seeded, tiny_batch, tiny_config, tiny_model, tiny_spec
from tests.pipeline.policies import CHOICE, CPU, Pair, episodes, save_pair, state_spec

GENERATIONS = {
    "v1": (("world_model=dreamer_v1", "behavior=dreamer_v1"), False),
    "v1 cloned, with ensemble": (
        ("world_model=dreamer_v1_continue", "world_model/ensemble=priors", "behavior=cloning"),
        True,
    ),
    "v2": (("world_model=dreamer_v2", "behavior=dreamer_v2"), False),
    "v2 choices": (("world_model=dreamer_v2_atari", "behavior=dreamer_v2_atari"), True),
    "v3": (("world_model=dreamer_v3", "behavior=dreamer_v3"), False),
    "v3 choices": (("world_model=dreamer_v3", "behavior=dreamer_v3"), True),
}
WITHOUT_DREAMSET = "import sys; sys.modules['dreamset'] = None\n"  # every import of it fails


def run_alone(python: Path, code: str, *arguments: str, folder: Path) -> str:
    """The output of code that runs in ``folder`` in an interpreter that cannot import this package."""
    done = subprocess.run(
        [python, "-I", "-c", WITHOUT_DREAMSET + code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=GENERATIONS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path]:
    """A saved pair and its export."""
    overrides, discrete = GENERATIONS[request.param]
    folder = tmp_path_factory.mktemp("exported")
    pair = save_pair(folder / "runs", *overrides, discrete=discrete)
    export_policy(pair.world_model, pair.policy, folder / "policy", environment=None)
    return pair, folder / "policy"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path]:
    """The pair whose export is the quickest."""
    folder = tmp_path_factory.mktemp("one")
    pair = save_pair(folder / "runs")
    export_policy(pair.world_model, pair.policy, folder / "policy", environment={"action_repeat": 2})
    return pair, folder / "policy"


@pytest.mark.parametrize("count", [1, 5])
def test_exported_actions_equal_those_of_evaluation_for_any_number_of_episodes(
    exported: tuple[Pair, Path], count: int
) -> None:
    pair, folder = exported
    observations, first = episodes(count)
    ours, theirs, unbroken = pair.ours(seed=3), Policy(folder, count=count, seed=3), Policy(folder, count=count, seed=3)
    for t in range(first.shape[1]):
        rows = {name: value[:, t] for name, value in observations.items()}
        np.testing.assert_array_equal(theirs.act(rows, first[:, t]), ours.act(rows, first[:, t]).numpy())
        unbroken.act(rows, first[:, t] & (t == 0))
    assert torch.equal(theirs.memory["stochastic"], ours.memory.state.stochastic)
    assert torch.equal(theirs.memory["deterministic"], ours.memory.state.deterministic)
    restarted = first[:, 1:].any(1)
    differ = (theirs.memory["deterministic"] != unbroken.memory["deterministic"]).any(1)
    assert torch.equal(differ, restarted)


def test_archive_contains_no_pickle_and_only_weights_for_acting(exported: tuple[Pair, Path]) -> None:
    archive = zipfile.ZipFile(exported[1] / "policy.pt2")
    sizes = {item.filename: item.file_size for item in archive.infolist()}
    assert [size for name, size in sizes.items() if "sample_inputs" in name] == [0]
    configs = [json.loads(archive.read(name))["config"] for name in sizes if name.endswith("_config.json")]
    assert len(configs) == 2  # weights and constants
    assert not any(entry["use_pickle"] for config in configs for entry in config.values())
    assert any("actor" in name for config in configs for name in config)
    assert not any(re.search("prior|ensemble|critic|reward|continue", name) for config in configs for name in config)
    magic = (b"\x80", b"PK")  # pickles, and the archives of torch.save
    assert not [name for name in sizes if "/data/weights" not in name and archive.read(name).startswith(magic)]


def test_exported_step_computes_the_states_of_training(exported: tuple[Pair, Path]) -> None:
    pair, _ = exported
    model, _ = load_world_model(pair.world_model, CPU)
    controller = load_behavior(pair.policy, CPU).controller(model)
    observations, first = episodes(3)
    noise = model.noise((first.shape[1], 3), seeded())
    memory = controller.initial(3)
    previous_actions, states = [], []
    for t in range(first.shape[1]):
        previous_actions.append(memory.action)
        row = {n: v[:, t] for n, v in observations.items()}
        _, memory = controller.step(row, first[:, t], memory, noise[t])
        states.append(memory.state)
    batch = replace(
        tiny_batch(3, first.shape[1]),
        observations=observations,
        action=torch.stack(previous_actions, 1),
        is_first=first,
    )
    whole = model.observe(batch, seeded()).states
    torch.testing.assert_close(torch.stack([s.deterministic for s in states], 1), whole.deterministic)
    torch.testing.assert_close(torch.stack([s.stochastic for s in states], 1), whole.stochastic)


def test_first_row_of_an_episode_resets_the_memory(one: tuple[Pair, Path]) -> None:
    observations, first = episodes(2)
    rows = {name: value[:, 0] for name, value in observations.items()}
    new, spoilt = Policy(one[1], count=2), Policy(one[1], count=2)
    spoilt.memory = {name: torch.full_like(value, torch.nan) for name, value in spoilt.memory.items()}
    np.testing.assert_array_equal(spoilt.act(rows, first[:, 0]), new.act(rows, first[:, 0]))


def test_description_lists_interface_lineage_versions_and_digests(one: tuple[Pair, Path]) -> None:
    pair, folder = one
    about = json.loads((folder / "policy.json").read_text())
    assert about["format_version"] == 1
    assert about["inputs"]["observations"] == [
        {"name": "image", "shape": [16, 16, 3], "dtype": "uint8"},
        {"name": "state", "shape": [3], "dtype": "float32"},
    ]
    assert about["inputs"]["is_first"] == {"shape": [], "dtype": "bool"}
    assert about["inputs"]["noise"] == {"shape": [4], "dtype": "float32", "distribution": "normal"}
    assert about["outputs"]["action"] == {"shape": [2], "dtype": "float32"}
    assert set(about["outputs"]) <= set(about["inputs"])
    assert about["action_space"] == {"size": 2, "discrete": False, "low": list(LOW), "high": list(HIGH)}
    assert about["environment"] == {"action_repeat": 2}
    assert about["lineage"]["key"] == "k1"
    assert about["versions"]["torch"] == torch.__version__
    assert about["program_sha256"] == file_sha256(folder / "policy.pt2")
    assert about["digests"] == {"world_model": model_digest(pair.world_model), "policy": model_digest(pair.policy)}


def test_exported_policy_samples_the_noise_of_its_latent(exported: tuple[Pair, Path]) -> None:
    pair, folder = exported
    model, _ = load_world_model(pair.world_model, CPU)
    controller, policy = load_behavior(pair.policy, CPU).controller(model), Policy(folder, count=3)
    observations, first = episodes(3)
    memory = policy.step({n: v[:, 0] for n, v in observations.items()}, first[:, 0], policy.memory, policy.generator)
    noise = controller.noise(3, torch.Generator().manual_seed(0))
    row = {n: v[:, 0] for n, v in observations.items()}
    _, after = controller.step(row, first[:, 0], controller.initial(3), noise)
    assert torch.equal(memory["stochastic"], after.state.stochastic)


def test_exported_policy_runs_without_this_package(one: tuple[Pair, Path], tmp_path: Path, warm: Path) -> None:
    pair, folder = one
    observations, first = episodes(3)
    np.savez(tmp_path / "episodes.npz", first=first.numpy(), **{name: v.numpy() for name, v in observations.items()})
    code = (
        "import json, sys, numpy as np; sys.path.insert(0, sys.argv[1])\n"
        "from policy import Policy\n"
        "policy, data = Policy(sys.argv[1], count=3, seed=7), dict(np.load('episodes.npz'))\n"
        "first = data.pop('first')\n"
        "rows = [policy.act({n: v[:, t] for n, v in data.items()}, first[:, t]) for t in range(first.shape[1])]\n"
        "print(json.dumps([row.tolist() for row in rows]))"
    )
    acted = np.array(json.loads(run_alone(warm / "python", code, str(folder), folder=tmp_path)), np.float32)
    ours = pair.ours(seed=7)
    for t, row in enumerate(acted):
        expected = ours.act({name: value[:, t] for name, value in observations.items()}, first[:, t])
        np.testing.assert_array_equal(row, expected.numpy())


def test_code_in_the_exported_readme_runs(one: tuple[Pair, Path], warm: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (one[1] / "README.md").read_text(), re.DOTALL)
    code = f"sys.path.insert(0, '.')\n{code}\nprint(action.shape)"
    assert run_alone(warm / "python", code, folder=one[1]).strip() == "(1, 2)"


@pytest.mark.parametrize(
    ("environment", "action", "generation"),
    [
        ("Pendulum-v1", ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,)), "dreamer_v1"),
        ("CartPole-v1", ActionSpec(2, discrete=True, low=(0.0, 0.0), high=(1.0, 1.0)), "dreamer_v2"),
    ],
)
def test_example_program_gets_the_return_of_the_saved_policy(
    environment: str, action: ActionSpec, generation: str, root: Path, tmp_path: Path, warm: Path
) -> None:
    env = gymnasium.make(environment)
    spec = state_spec(env.observation_space.shape[0], action)
    pair = save_pair(tmp_path / "runs", f"world_model={generation}", f"behavior={generation}", spec=spec)
    recorded = {"_target_": "own.make", "action_repeat": 2}
    export_policy(pair.world_model, pair.policy, tmp_path / "policy", environment=recorded)
    code = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = (str(root / "examples/run_policy.py"), str(tmp_path / "policy"), environment)
    output = run_alone(warm / "python", f"sys.argv = sys.argv[1:]\n{code}", *arguments, folder=tmp_path)
    policy, (observation, _) = pair.ours(seed=0), env.reset(seed=0)
    total, first, over = 0.0, True, False
    while not over:
        act = policy.act({"state": torch.as_tensor(observation)[None]}, torch.tensor([first]))[0].numpy()
        for _ in range(2):
            observation, reward, terminated, truncated, _ = env.step(int(act.argmax()) if action.discrete else act)
            total, over = total + float(reward), over or terminated or truncated
            if over:
                break
        first = False
    assert output.splitlines() == [
        f"return {total:.2f} in the rewards of {environment}",
        "`dreamset evaluate` counts the rewards of own.make instead",
    ]


def test_observations_of_equal_shape_are_passed_by_name(tmp_path: Path) -> None:
    spec = tiny_spec()
    alike = replace(
        spec,
        observations={name: ArraySpec((3,), "float32") for name in ("b.velocity", "a")},
        statistics={name: VectorStatistics((0.0,) * 3, (1.0,) * 3) for name in ("b.velocity", "a")},
    )
    pair = save_pair(tmp_path / "runs", spec=alike)
    export_policy(pair.world_model, pair.policy, tmp_path / "policy", environment=None)
    rows = {"b.velocity": torch.ones(1, 3), "a": torch.zeros(1, 3)}
    first = torch.tensor([True])
    expected = pair.ours(seed=0).act(rows, first).numpy()
    for ordered in (rows, dict(reversed(rows.items()))):
        np.testing.assert_array_equal(Policy(tmp_path / "policy").act(ordered, first), expected)
    swapped = {"b.velocity": rows["a"], "a": rows["b.velocity"]}
    assert not np.array_equal(Policy(tmp_path / "policy").act(swapped, first), expected)


def test_images_with_fractions_are_refused_instead_of_truncated(one: tuple[Pair, Path]) -> None:
    rows = {"image": np.full((1, 16, 16, 3), 0.5), "state": np.zeros((1, 3))}
    with pytest.raises(TypeError, match="uint8"):
        Policy(one[1]).act(rows, [True])


def test_export_is_replaced_completely_or_not_at_all(
    one: tuple[Pair, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, _ = one
    output = tmp_path / "policy"
    export_policy(pair.world_model, pair.policy, output, environment={"made": "first"})
    (output / "left_over").touch()

    def fails(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export, "readme", fails)
        with pytest.raises(KeyboardInterrupt):
            export_policy(pair.world_model, pair.policy, output, environment={"made": "second"})
    assert json.loads((output / "policy.json").read_text())["environment"] == {"made": "first"}
    assert list(tmp_path.iterdir()) == [output]
    export_policy(pair.world_model, pair.policy, output, environment={"made": "second"})
    assert json.loads((output / "policy.json").read_text())["environment"] == {"made": "second"}
    assert sorted(path.name for path in output.iterdir()) == ["README.md", "policy.json", "policy.pt2", "policy.py"]


def test_folder_that_is_no_export_is_not_replaced(one: tuple[Pair, Path], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    with pytest.raises(UserError, match=r"thesis exists and is not an exported policy"):
        export_policy(one[0].world_model, one[0].policy, tmp_path / "thesis", environment=None)
    assert (tmp_path / "thesis" / "chapter").exists()


def test_old_pytorch_is_refused_with_both_versions(
    one: tuple[Pair, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1"))
    with pytest.raises(UserError, match=r"PyTorch is 2\.9\.1; export needs 2\.13 or newer"):
        export_policy(one[0].world_model, one[0].policy, tmp_path / "policy", environment=None)


def test_policy_of_another_world_model_is_refused(one: tuple[Pair, Path], tmp_path: Path) -> None:
    other = save_pair(tmp_path / "runs", seed=1)
    with pytest.raises(UserError, match=r"behavior/.* was learned in another world model than .*world_model/"):
        export_policy(one[0].world_model, other.policy, tmp_path / "policy", environment=None)
    description = json.loads((other.policy / "model.json").read_text())
    description["lineage"] |= {"world_model": None, "key": "k2"}  # as an earlier release wrote it
    del description["checksum"]
    (other.policy / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="learned in another world model"):
        export_policy(one[0].world_model, other.policy, tmp_path / "policy", environment=None)


def test_command_exports_the_configured_models(capsys: pytest.CaptureFixture[str]) -> None:
    pair = save_pair(Path("runs"))
    cli.main(["export", "preset=tiny"])
    output = Path("runs/export/reconstruction-0")
    assert capsys.readouterr().out.startswith(f"{output}: ")
    assert json.loads((output / "policy.json").read_text())["environment"]["image_size"] == 32
    folders = ["--policy", str(pair.policy), "--world-model", str(pair.world_model), "--output", "elsewhere"]
    cli.main(["export", "dataset=cartpole", *folders])  # other data than the policy's
    assert json.loads(Path("elsewhere/policy.json").read_text())["environment"] is None


def test_policy_of_another_dataset_is_not_exported(capsys: pytest.CaptureFixture[str]) -> None:
    save_pair(Path("runs"))
    with pytest.raises(SystemExit):
        cli.main(["export", "dataset=cartpole", "--output", "elsewhere"])
    assert "was trained on pendulum_pixels, not on cartpole" in capsys.readouterr().err
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "runs/behavior/reconstruction-0/model/model.json does not exist; run `dreamset learn-behavior` first"),
        (["--policy", "nowhere"], "nowhere/model.json does not exist"),
        (["objective=none"], "none"),
    ],
)
def test_export_errors_are_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", *arguments])
    assert stop.value.code == 2
    (message,) = capsys.readouterr().err.strip().splitlines()
    assert expected in message


PLANNERS = {  # few steps, because tracing takes long
    "with critic and actor": (
        ("acting=mppi_critic_actor", "acting.proposals=2", "acting.optimizer.iterations=2"),
        "acting.optimizer.horizon=1",
        ActionSpec(2, discrete=False, low=LOW, high=HIGH),
    ),
    "of choices, with categorical states": (
        ("acting=categorical_cem", "world_model=dreamer_v2", "acting.optimizer.iterations=1"),
        "acting.optimizer.horizon=2",
        CHOICE,
    ),
}


@pytest.mark.parametrize("name", PLANNERS)
def test_exported_planner_equals_its_step_for_any_number_of_episodes(name: str, tmp_path: Path) -> None:
    overrides, horizon, action = PLANNERS[name]
    overrides = (*overrides, horizon, "acting.optimizer.candidates=3", "acting.optimizer.elites=2")
    pair, acting = (
        save_pair(tmp_path / "runs", *overrides, spec=state_spec(3, action)),
        tiny_config(*overrides)["acting"],
    )
    export_policy(pair.world_model, pair.policy, tmp_path / "policy", environment=None, acting=acting)
    model, _ = load_world_model(pair.world_model, CPU)
    controller = Planned(build_part(acting), load_behavior(pair.policy, CPU)).controller(model)
    observations, first = episodes(3, rows=5)
    del observations["image"]
    for count in (1, 3):
        policy, memory, generator = (
            Policy(tmp_path / "policy", count=count, seed=5),
            controller.initial(count),
            seeded(5),
        )
        for t in range(first.shape[1]):
            row, begins = {n: v[:count, t] for n, v in observations.items()}, first[:count, t]
            action, memory = controller.step(row, begins, memory, controller.noise(count, generator))
            np.testing.assert_allclose(policy.act(row, begins), action.numpy(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(policy.memory["plan"], memory.plan)
    about = json.loads((tmp_path / "policy" / "policy.json").read_text())
    (numbers,) = about["inputs"]["noise"]["shape"]
    assert f"{numbers:,} numbers" in (tmp_path / "policy" / "README.md").read_text()
    assert about["acting"] == acting


def test_gradient_planner_is_refused_in_one_line_before_it_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = save_pair(tmp_path / "runs")
    monkeypatch.setattr(export, "trace", lambda _: pytest.fail("it was traced"))
    acting = tiny_config("acting=gradient")["acting"]
    with pytest.raises(UserError, match=r"GradientPlanner cannot be exported.*acting/optimizer=cem"):
        export_policy(pair.world_model, pair.policy, tmp_path / "policy", environment=None, acting=acting)
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize(("way", "pruned"), [("actor", True), ("cem", False)])
def test_a_model_is_pruned_only_if_acting_needs_no_plans(way: str, pruned: bool) -> None:
    model = tiny_model()
    acting = tiny_config(f"acting={way}")["acting"]
    behavior = build_part(tiny_config()["behavior"], model.feature_size, model.spec.action)
    controller = export.exportable(model, behavior if acting is None else Planned(build_part(acting), behavior))
    assert isinstance(controller, torch.nn.Module)
    assert any("reward_head" in key for key in controller.state_dict()) is not pruned
