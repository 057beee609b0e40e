"""Rewards with irreversibility through the stages: every behaviour, fine-tuning, filtered acting, and mistakes."""

import json
import logging
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from dreamset.behaviors.reversibility.filter import ActsReversibly, Reversible
from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.acting import load_acting, load_policy
from dreamset.pipeline.artifacts.rewards import reward_of
from dreamset.pipeline.artifacts.saved_models import load_world_model
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.stages import compare, evaluate, finetune, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import Finetune
from dreamset.pipeline.training import checkpoint
from tests.builders import seeded
from tests.docs_blocks import blocks
from tests.pipeline.conftest import TINY, Configure
from tests.pipeline.killing import Killed, kill_after
from tests.pipeline.test_plan2explore import SIZES
from tests.pipeline.test_plan2explore import SMALL as QUICK

CPU = torch.device("cpu")
CAREFUL, SAFETY = "reward=careful", "reward.rewards.safety"
MODEL, POLICY = Path("runs/world_model/reconstruction-0/model"), Path("runs/behavior/reconstruction-0/model")
SEARCH = [f"acting.optimizer.{name}={value}" for name, value in {"candidates": 4, "elites": 2, "iterations": 1}.items()]
SMALL = ["evaluation.episodes=2", "dataset.environment.episode_steps=12"]
EPISODES = ["collection.episodes=12", "collection.reference_episodes=2"]
ONLINE = ["finetuning.environment_steps=24", "finetuning.evaluate_every=24", "finetuning.train_ratio=4"]


@pytest.fixture(scope="module")
def careful_runs(offline_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs/`` with a policy that was learned with ``reward=careful``."""
    folder = tmp_path_factory.mktemp("careful")
    shutil.copytree(offline_runs, folder / "runs")
    (folder / "data").symlink_to((offline_runs.parent / "data").resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(folder)
        learn_behavior.run(stages.learn_behavior(compose([*TINY, CAREFUL, f"{SAFETY}.threshold=0.4"])))
    return folder / "runs"


@pytest.fixture
def project(offline_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """Composes settings in a folder with data, a world model and a policy of ``reward=predicted``."""
    shutil.copytree(offline_runs, workspace / "runs")
    return configure


@pytest.fixture
def careful(careful_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """The same with a policy that was learned with ``reward=careful``."""
    shutil.copytree(careful_runs, workspace / "runs")
    return configure


def figures(stage: str) -> dict[str, float]:
    values: dict[str, float] = json.loads(Path(f"runs/{stage}/reconstruction-0/metrics.json").read_text())
    return values


def returns() -> list[float]:
    return pd.read_csv("runs/evaluation/reconstruction-0/episodes.csv")["return"].tolist()


@pytest.mark.parametrize("behavior", ["dreamer_v3", "cloning", "planning"])
def test_careful_is_learned_and_evaluated_with_every_behaviour(project: Configure, behavior: str) -> None:
    search = [*SEARCH, "acting.optimizer.horizon=2"] if behavior == "planning" else []
    chosen = [CAREFUL, f"behavior={behavior}", *search]
    learn_behavior.run(project("learn_behavior", *chosen))
    evaluate.run(project("evaluate", *chosen, *SMALL))
    learned = figures("behavior")
    names = {"loss/precedence", "loss/action_irreversibility", "reversibility/order_accuracy"}
    assert names <= learned.keys()
    assert ("imagination/irreversibility" in learned) == behavior.startswith("dreamer")
    assert "evaluation/return_iqm" in figures("evaluation")


def test_the_curve_has_every_term_and_the_policy_keeps_its_reward(careful: Configure) -> None:
    del careful
    curve = pd.read_csv("runs/behavior/reconstruction-0/imagination.csv")
    terms = {"imagination/reward", "imagination/irreversibility", "reversibility/recorded_irreversibility"}
    assert terms <= set(curve.columns)
    assert (curve["imagination/irreversibility"] < 0).all()
    networks = reward_of(POLICY, CPU).networks()
    assert networks.keys() == {"precedence", "action_irreversibility"}
    saved = load_file(POLICY / "reward.safetensors")
    for name, value in networks["precedence"].state_dict().items():
        assert torch.equal(saved[f"rewards.safety.precedence.{name}"], value)


def test_a_killed_training_of_a_sum_resumes_to_the_same_bytes(
    project: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    config = project("learn_behavior", CAREFUL, f"{SAFETY}.threshold=0.4")
    files = [POLICY / "model.safetensors", POLICY / "reward.safetensors"]
    learn_behavior.run(config)
    uninterrupted = [file.read_bytes() for file in files]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        learn_behavior.run(config)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        learn_behavior.run(config)
    assert [file.read_bytes() for file in files] == uninterrupted


def test_data_that_look_one_way_are_a_warning_at_the_end_of_learning(
    project: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        learn_behavior.run(project("learn_behavior", CAREFUL))
    assert "one-way" not in caplog.text  # untrained networks answer about a half
    with caplog.at_level(logging.WARNING):
        learn_behavior.run(project("learn_behavior", CAREFUL, f"{SAFETY}.threshold=0.2"))
    (line,) = [record.getMessage() for record in caplog.records if "one-way" in record.getMessage()]
    assert "above the threshold 0.2" in line


def test_a_policy_acts_with_the_filter_in_evaluation_in_python_and_exported(careful: Configure) -> None:
    results = {}
    for way in ([], ["acting=reversible"], ["acting=reversible", "acting.threshold=0.1"]):
        evaluate.run(careful("evaluate", *way, *SMALL))  # it needs no reward=careful again
        results[tuple(way)] = returns()
    untouched, allowed, rejected = results.values()
    assert untouched == allowed  # hardly trained, nothing looks irreversible
    assert rejected != untouched

    node = careful("evaluate", "acting=reversible", "acting.threshold=0.1")["acting"]
    model, described = load_world_model(MODEL)
    way = load_acting(POLICY, model, described, CPU, acting=node)
    assert isinstance(way, ActsReversibly)
    controller = way.controller(model)
    agent = load_policy(POLICY, MODEL, acting=Reversible(threshold=0.1), seed=3)
    export_policy(MODEL, POLICY, Path("exported"), environment=None, acting=node)
    exported, memory, generator = Policy("exported", count=3, seed=3), controller.initial(3), seeded(3)
    for t in range(4):
        rows = {"state": torch.randn(3, 3, generator=seeded(t))}
        first = torch.tensor([t == 0, t in (0, 2), t == 0])
        expected, memory = controller.act(rows, first, memory, generator)
        assert torch.equal(agent.act(rows, first), expected)
        np.testing.assert_allclose(exported.act(rows, first), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert len(expected.unique()) == 3


def test_fine_tuning_collects_with_the_filter_whose_network_learns_on(careful: Configure) -> None:
    learned_with = [CAREFUL, f"{SAFETY}.threshold=0.4"]
    settings = careful("finetune", *learned_with, "acting=reversible", *SMALL, *ONLINE)
    models = finetune.Models.load(Finetune.of(**settings), CPU)
    assert isinstance(models.acting, ActsReversibly)
    assert models.acting.network is models.reward.networks()["action_irreversibility"]
    finetune.run(settings)
    before, after = (
        load_file(folder / "reward.safetensors") for folder in (POLICY, Path("runs/finetune/reconstruction-0/policy"))
    )
    assert any(not torch.equal(before[name], after[name]) for name in before if "action_irreversibility" in name)
    assert figures("finetune")["finetune/episodes"] == 2


def test_a_planner_with_networks_is_fine_tuned(project: Configure) -> None:
    chosen = [CAREFUL, "behavior=planning", *SEARCH, "acting.optimizer.horizon=2"]
    learn_behavior.run(project("learn_behavior", *chosen))
    finetune.run(project("finetune", *chosen, *SMALL, *ONLINE))
    assert figures("finetune")["finetune/episodes"] == 2


def test_an_explorer_has_a_cost_of_irreversible_steps_that_the_policy_has_not(project: Configure) -> None:
    explorer = "finetuning.explorer={behavior: ${behavior}, reward: ${reward}}"
    settings = project("finetune", *SMALL, *ONLINE, explorer)
    settings["finetuning"]["explorer"]["reward"] = compose([*TINY, CAREFUL])["reward"]
    finetune.run(settings)
    assert not Path("runs/finetune/reconstruction-0/policy/reward.safetensors").exists()


def test_three_terms_are_learned_with_a_weight_and_a_curve_each(configure: Configure) -> None:
    chosen = ["world_model/ensemble=one_step", "reward=careful_exploration"]
    chosen += ["reward.weights.safety=0.5", f"{SAFETY}.threshold=0.4", "reward.rewards.curiosity.weight.target=0.3"]
    train_world_model.run(configure("train_world_model", *chosen))
    learn_behavior.run(configure("learn_behavior", *chosen))
    evaluate.run(configure("evaluate", *chosen, "acting=reversible", *SMALL))
    learned = figures("behavior")
    assert learned["imagination/disagreement"] == pytest.approx(0.3, rel=0.3)
    assert learned["imagination/irreversibility"] < 0
    compare.run(stages.compare(compose([*TINY, *chosen]), ["reconstruction"], [0]))
    page = Path("runs/comparison/report.html").read_text()
    for term in ("imagined reward", "curiosity", "irreversibility"):
        assert f"Policy: {term} per step" in page


def test_precedence_and_filter_work_on_raw_observations(configure: Configure) -> None:
    chosen = ["world_model=observations", "objective=reward_only", "behavior=cloning", "reward=irreversibility"]
    train_world_model.run(configure("train_world_model", *chosen))
    learn_behavior.run(configure("learn_behavior", *chosen))
    evaluate.run(configure("evaluate", *chosen, "acting=reversible", *SMALL))
    model = Path("runs/world_model/reward_only-0/model")
    precedence = reward_of(Path("runs/behavior/reward_only-0/model"), CPU).networks()["precedence"]
    assert precedence.encoder[0].in_features == load_world_model(model)[0].feature_size == 3  # cosine, sine, velocity


def test_fine_tuning_may_add_a_cost_whose_networks_begin_untrained(project: Configure) -> None:
    finetune.run(project("finetune", CAREFUL, *SMALL, *ONLINE))
    networks = reward_of(Path("runs/finetune/reconstruction-0/policy"), CPU).networks()
    assert networks.keys() == {"precedence", "action_irreversibility"}


def test_a_policy_without_the_network_cannot_act_with_the_filter(project: Configure) -> None:
    with pytest.raises(UserError, match=r"PredictedReward has none; learn the behaviour with reward=careful"):
        evaluate.run(project("evaluate", "acting=reversible", *SMALL))


def test_plans_for_another_careful_reward_than_the_learned_one_are_refused(careful: Configure) -> None:
    with pytest.raises(UserError, match=r"whose networks or constants are learned with a behaviour"):
        evaluate.run(careful("evaluate", CAREFUL, "acting=cem", *SEARCH, *SMALL))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([f"{SAFETY}.window=0"], "reward.rewards.safety.window is 0; allowed: 1 or more"),
        ([f"{SAFETY}.window=-3"], "reward.rewards.safety.window is -3; allowed: 1 or more"),
        (
            [f"{SAFETY}.window=8"],
            "windows of 9 rows or more, but behavior_training.batch.length is 8; raise",
        ),
        ([f"{SAFETY}.weight=-1"], "reward.rewards.safety.weight is -1; allowed: 0 or more"),
        ([f"{SAFETY}.threshold=1"], "reward.rewards.safety.threshold is 1; allowed: less than 1"),
        ([f"{SAFETY}.threshold=-0.1"], "reward.rewards.safety.threshold is -0.1; allowed: 0 or more"),
        ([f"{SAFETY}.steps=0"], "reward.rewards.safety.steps is 0; allowed: 1 or more"),
        ([f"{SAFETY}.forgetting=1"], "reward.rewards.safety.forgetting is 1; allowed: less than 1"),
        (["+reward.weights.danger=1"], "the weights of a Sum name danger; allowed: its rewards, task, safety"),
        (["acting=reversible", "acting.threshold=1"], "acting.threshold is 1; allowed: less than 1"),
        (["acting=reversible", "acting.candidates=0"], "acting.candidates is 0; allowed: 1 or more"),
    ],
)
def test_wrong_settings_are_refused_before_any_stage(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError) as error:
        compose([*TINY, CAREFUL, *overrides])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_reward_of_another_class_is_refused_before_any_stage() -> None:
    with pytest.raises(UserError, match=r"Identity is no RewardFunction"):
        compose([*TINY, "reward._target_=torch.nn.Identity"])


@pytest.mark.slow
def test_documented_commands_lead_to_a_careful_policy(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(root / "docs/reversibility.md"):
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, "docs/reversibility.md", "exec"), {})  # lines of the page
            continue
        for line in block.code.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "dreamset"
            cli.main([*arguments, *SIZES[:2], *QUICK, *EPISODES])
    assert {"imagination/disagreement", "imagination/irreversibility"} <= figures("behavior").keys()
    assert figures("finetune")["finetune/episodes"] > 0
