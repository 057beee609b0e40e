"""Ways of acting in the pipeline: planning with and without a learned behaviour, and mistakes before a stage runs."""

import json
import logging
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

import dreamset
from dreamset.behaviors.controller import Agent
from dreamset.behaviors.planning.optimizers import CEM
from dreamset.behaviors.planning.planner import Planned, Planner, Planning
from dreamset.behaviors.rewards import PredictedReward
from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.core.spec import ActionSpec
from dreamset.environments import pendulum
from dreamset.environments.recorder import record_episodes
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.acting import acting_of, load_policy, require_fit, warn_of_horizon
from dreamset.pipeline.artifacts.description import PREDICTION
from dreamset.pipeline.artifacts.saved_models import (
    WORLD_MODEL,
    SavedModel,
    load_behavior,
    load_world_model,
    read_description,
    save_model,
    save_reward,
)
from dreamset.pipeline.artifacts.saved_policy import saved_policy
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.evaluation.playing import Decisions
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.stages import compare, evaluate, finetune, learn_behavior
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking import names
from tests.builders import seeded, tiny_spec
from tests.docs_blocks import blocks
from tests.foreign.behaviors import PlannedActions
from tests.foreign.models import TokenModel
from tests.pipeline.conftest import TINY, Configure

SEARCH = [f"acting.optimizer.{name}={value}" for name, value in {"candidates": 4, "elites": 2, "iterations": 1}.items()]
SMALL = [*SEARCH, "acting.optimizer.horizon=2", "evaluation.episodes=2", "dataset.environment.episode_steps=12"]
MODEL, POLICY = Path("runs/world_model/reconstruction-0/model"), Path("runs/behavior/reconstruction-0/model")
SCORES = Path("runs/evaluation/reconstruction-0/metrics.json")
REWARD = PredictedReward()


@pytest.fixture
def project(offline_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """Composes settings in a folder with data, a world model and an actor-critic's policy."""
    shutil.copytree(offline_runs, workspace / "runs")
    return configure


@pytest.fixture
def planner(project: Configure) -> Configure:
    """The same with the behaviour ``planning`` in place of the actor-critic."""
    learn_behavior.run(project("learn_behavior", "behavior=planning", *SMALL))
    return project


def scores() -> dict[str, float]:
    figures: dict[str, float] = json.loads(SCORES.read_text())
    return figures


def returns() -> list[float]:
    return pd.read_csv(SCORES.parent / "episodes.csv")["return"].tolist()


def said(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a failing command says."""
    with pytest.raises(SystemExit):
        cli.main(command)
    return capsys.readouterr().err


def test_a_learned_behaviour_is_evaluated_under_every_way_of_acting(project: Configure) -> None:
    results = {}
    for way in ("actor", "cem", "mppi_critic_actor", "gradient"):
        evaluate.run(project("evaluate", f"acting={way}", *([] if way == "actor" else SMALL), *SMALL[-2:]))
        results[way] = returns()
        assert {"evaluation/imagined_return", "evaluation/return_iqm"} <= scores().keys()
    assert len({tuple(values) for values in results.values()}) == 4  # no way acts as another one
    evaluate.run(project("evaluate", "acting=cem", *SMALL))
    assert returns() == results["cem"]


def test_a_planner_learns_nothing_and_is_saved_compared_and_loaded(planner: Configure) -> None:
    evaluate.run(planner("evaluate", "behavior=planning", *SMALL))
    curves = pd.read_csv("runs/behavior/reconstruction-0/imagination.csv")
    assert curves.to_dict("list") == {"update": [0.0]}
    assert isinstance(load_behavior(POLICY), Planner)
    assert not list(load_behavior(POLICY).parameters())
    composed = compose([*TINY, "behavior=planning", *SMALL])
    compare.run(stages.compare(composed, ["reconstruction"], [0]))
    of_policy = registration(POLICY, scores())
    assert of_policy.figures["cost/decisions_per_second"] == scores()["cost/decisions_per_second"]
    page = Path("runs/comparison/report.html").read_text()
    assert "time per decision" in page
    assert f"{scores()['cost/decision_milliseconds']:.2f} ms" in page


def test_a_planner_needs_no_windows_of_the_data(project: Configure) -> None:
    learn_behavior.run(project("learn_behavior", "behavior=planning", *SMALL, "behavior_training.batch.length=100000"))
    assert isinstance(load_behavior(POLICY), Planner)
    with pytest.raises(UserError, match="no episode has 100000 rows"):
        learn_behavior.run(project("learn_behavior", "behavior_training.batch.length=100000"))


def test_a_planner_is_fine_tuned_with_exploration_and_costs_a_time_per_decision(planner: Configure) -> None:
    online = ["finetuning.environment_steps=24", "finetuning.evaluate_every=24"]
    gaussian = "dreamset.behaviors.exploration.GaussianNoise"
    noise = [f"finetuning.exploration._target_={gaussian}", "+finetuning.exploration.std=0.3"]
    collected = {}
    for name, exploration in {"sampled": [], "noise": noise}.items():
        settings = planner("finetune", "behavior=planning", *SMALL, *online, *exploration)
        finetune.run(settings)
        store = dreamset.Store.open("runs/finetune/reconstruction-0/online")
        collected[name] = store.read(0)["action"]
        figures = json.loads(Path("runs/finetune/reconstruction-0/metrics.json").read_text())
        assert figures["cost/decision_episodes"] == 2
        assert figures["cost/decisions_per_second"] > 0
        assert np.abs(collected[name]).max() <= 2
    assert not np.array_equal(collected["sampled"], collected["noise"])
    assert isinstance(load_behavior("runs/finetune/reconstruction-0/policy"), Planner)


def test_the_policy_of_a_planner_is_the_same_from_python_and_in_a_recording(planner: Configure) -> None:
    settings = planner("evaluate", *SMALL, "acting=cem")
    planning = build_part(settings["acting"])
    rows = {"state": torch.tensor([[1.0, 0.0, 0.0]])}

    def action(agent: Agent) -> NDArray[np.float32]:
        taken: NDArray[np.float32] = agent.act(rows, torch.tensor([True])).numpy()
        return taken

    model, _ = load_world_model(MODEL)
    by_hand = action(Agent(Planned(planning, load_behavior(POLICY)).controller(model), generator=seeded()))
    np.testing.assert_array_equal(action(load_policy(POLICY, MODEL)), by_hand)  # it was saved with this plan
    np.testing.assert_array_equal(action(load_policy(POLICY, MODEL, acting=planning)), by_hand)
    other = Planning(CEM(horizon=3, candidates=8, elites=2, iterations=2), PredictedReward())
    assert not np.array_equal(action(load_policy(POLICY, MODEL, acting=other)), by_hand)

    def record(acting: Planning | None) -> NDArray[np.float32]:
        def policy(environment: Any, generator: np.random.Generator) -> Any:
            return saved_policy(environment, generator, world_model=str(MODEL), behavior=str(POLICY), acting=acting)

        (episode,) = record_episodes(pendulum.make(image_size=None, episode_steps=4), policy, episodes=1, seed=0)
        return episode.actions

    np.testing.assert_array_equal(record(None), record(planning))
    assert not np.array_equal(record(None), record(other))


def test_a_planner_dreams_and_its_actions_are_really_taken(project: Configure) -> None:  # noqa: ARG001
    dream = ["dream", *TINY, "--with-policy", "--context", "3", "--horizon", "4", "--samples", "2"]
    cli.main([*dream, "acting=cem", *SMALL, "--output", "planned.png"])
    cli.main([*dream, SMALL[-1], "--output", "acted.png"])
    planned = pd.read_csv("planned.csv")
    assert len(planned) == 7
    assert planned["error"].notna().all()
    assert not planned.equals(pd.read_csv("acted.csv"))


def test_the_way_of_acting_changes_only_the_stages_that_act() -> None:
    usual, planned = compose(TINY), compose([*TINY, "acting=mppi_critic_actor"])
    changed = {name for name, stage in stages.STAGES.items() if stage(usual) != stage(planned)}
    assert changed == {"evaluate", "finetune"}
    changed = {name for name, stage in stages.STAGES.items() if stage(usual) != stage(compose([*TINY, "acting=actor"]))}
    assert not changed


def test_returns_of_two_ways_of_acting_have_different_conditions() -> None:
    def conditions(*overrides: str) -> str:
        settings = evaluate.Evaluate.of(**stages.evaluate(compose([*TINY, *overrides])))
        return evaluate.conditions_of(settings, {"dataset_digest": "d"})

    assert len({conditions(), conditions("acting=cem"), conditions("acting=mppi")}) == 3
    assert conditions("acting=actor") == conditions()


@pytest.mark.parametrize(("stage", "name"), [("evaluate", "acting"), ("finetune", "online_acting")])
def test_rows_name_the_way_of_acting(stage: str, name: str) -> None:
    def parameters(way: str) -> dict[str, Any]:
        settings = stages.STAGES[stage](compose([*TINY, f"acting={way}"]))
        return names.parameters(stage, settings, {"acting": way}, [f"acting={way}"])

    assert parameters("mppi")[name] == "mppi"
    assert parameters("actor")[name] == "actor"
    assert names.of_stage("evaluate", ["acting=mppi", "reward=x"]) == ["acting=mppi"]
    assert names.short_override("acting.optimizer.horizon=3") == "acting.horizon=3"  # the behaviour has one, too
    assert names.of_stage("train_world_model", ["acting=mppi"]) == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["acting=cem", "acting.optimizer.elites=200"], "acting.optimizer.elites is 200; allowed: 1 to 128"),
        (["acting=cem", "acting.optimizer.candidates=0"], "acting.optimizer.candidates is 0; allowed: 1 or more"),
        (["acting=colored_cem", "acting.optimizer.horizon=1.5"], "acting.optimizer.horizon is 1.5; allowed: a whole"),
        (["acting=mppi", "acting.optimizer.momentum=2"], "acting.optimizer.momentum is 2; allowed: 1 or less"),
        (["acting=cem", "acting.discount=1.1"], "acting.discount is 1.1; allowed: 1 or less"),
        (["acting=cem", "acting.proposals=-1"], "acting.proposals is -1; allowed: 0 or more"),
        (["acting=mppi_critic", "acting.terminal_value.pessimism=-1"], "acting.terminal_value.pessimism is -1"),
        (["acting=cem", "+acting.optimizer.x=1"], "acting.optimizer.x is no argument of .*CEM"),
        (["acting/optimizer=mppi"], "acting/optimizer belongs to none of the selected parts; choose acting=cem too"),
        (["behavior=planning", "acting=actor"], "acting is null; allowed: a part.*; behavior.planning reads this"),
    ],
)
def test_wrong_settings_of_a_planner_are_refused_before_any_stage(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        compose([*TINY, *overrides])


def test_a_stage_gives_the_same_line_as_the_composition(project: Configure) -> None:
    config = project("evaluate", "acting=cem", *SMALL)
    config["acting"] = config["acting"] | {"optimizer": config["acting"]["optimizer"] | {"elites": 200}}
    with pytest.raises(UserError, match=r"^acting\.optimizer\.elites is 200; allowed: 1 to 4"):
        evaluate.run(config)


def test_planning_without_the_networks_that_it_needs_is_refused_before_it_plays(
    planner: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    for way, words in (
        ("mppi_critic", "acting.terminal_value needs a critic, but Planner and WorldModel have none"),
        ("cem acting.proposals=3", "acting.proposals needs a policy, but Planner and WorldModel have none"),
    ):
        assert words in said(["evaluate", *TINY, *f"acting={way}".split(), *SEARCH], capsys)
    assert not SCORES.exists()
    del planner


def test_a_reward_whose_constants_were_not_computed_is_refused(
    project: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    del project
    pessimism = ["world_model/ensemble=priors", "reward=mean_disagreement", "reward/weight=calibrated"]
    error = said(["evaluate", *TINY, "acting=cem", *SEARCH, *pessimism], capsys)
    assert "whose networks or constants are learned with a behaviour" in error
    assert "reward/weight=fixed" in error


def test_plans_have_the_constants_that_were_computed_while_their_behaviour_learned(
    project: Configure, tmp_path: Path
) -> None:
    pessimism = ["reward=mean_disagreement", "reward/weight=calibrated"]
    acting = project("evaluate", "acting=cem", *SEARCH, *pessimism)["acting"]
    behavior, saved = load_behavior(POLICY), read_description(POLICY, made_by="dreamset learn-behavior")
    reward = build_part(acting["reward"])
    reward.weight.value.fill_(0.25)
    lineage = {**saved.lineage, "reward": acting["reward"]}
    with replaced_folder(tmp_path / "policy") as folder:
        save_model(folder, behavior, SavedModel(saved.architecture, saved.spec, lineage, saved.kind))
        save_reward(folder, reward)
    way = acting_of(behavior, tmp_path / "policy", torch.device("cpu"), acting=acting)
    assert isinstance(way, Planned)
    assert way.planning.reward.state_dict()["weight.value"].item() == 0.25


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (ActionSpec(1, False, (-np.inf,), (np.inf,)), "CEM searches between bounds"),
        (ActionSpec(3, True, (0.0,) * 3, (1.0,) * 3), "choose acting/optimizer=categorical_cem"),
    ],
)
def test_actions_that_cannot_be_searched_are_refused_before_they_are_played(action: ActionSpec, words: str) -> None:
    node = compose([*TINY, "behavior=planning"])["behavior"]
    with pytest.raises(UserError, match=words):
        build_part(node, 4, action)


def test_planning_for_rewards_in_a_model_without_them_is_refused() -> None:
    model, planning = TokenModel(tiny_spec()), Planning(CEM(horizon=2, candidates=2, elites=1, iterations=1), REWARD)
    behavior = PlannedActions(model.feature_size, model.spec.action)
    described = SavedModel({}, model.spec, {}, WORLD_MODEL)
    require_fit(behavior, model, described)  # acts itself
    with pytest.raises(UserError, match=r"planning for the reward PredictedReward needs .* TokenModel lacks \(RewardM"):
        require_fit(Planned(planning, behavior), model, described)


def test_a_horizon_beyond_the_training_windows_is_a_warning_with_the_open_loop_error(
    project: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    lineage = read_description(MODEL, made_by="the test").lineage
    figures = json.loads((MODEL.parent / "metrics.json").read_text())
    assert lineage[PREDICTION]["rows"] == 8
    assert lineage[PREDICTION]["reward_error"] == {
        step: figures[f"validation/reward_error_h{step}"] for step in ("1", "5")
    }
    with caplog.at_level(logging.WARNING):
        evaluate.run(project("evaluate", "acting=cem", *SMALL, "acting.optimizer.horizon=7"))  # 8 rows with the start
        assert "acting.optimizer.horizon" not in caplog.text
        evaluate.run(project("evaluate", "acting=cem", *SMALL, "acting.optimizer.horizon=8"))
    error = figures["validation/reward_error_h5"]
    assert (
        f"acting.optimizer.horizon is 8 steps, but the world model was trained on windows of 8 rows; the squared error "
        f"of its predicted reward is {error:.4g} at +5, the nearest measured step" in caplog.text
    )


def test_the_warning_names_the_error_at_the_very_horizon_and_old_models_give_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_horizon(20, {})
        warn_of_horizon(9, {PREDICTION: {"rows": 10, "reward_error": {}}})
        assert not caplog.messages
        warn_of_horizon(10, {PREDICTION: {"rows": 10, "reward_error": {"1": 0.5, "10": 0.25}}})
        warn_of_horizon(10, {PREDICTION: {"rows": 10, "reward_error": {}}})
    assert "is 0.25 at +10; lower the horizon" in caplog.messages[0]
    assert "squared error" not in caplog.messages[1]


def test_time_per_decision_is_that_of_the_median_step_shared_by_all_episodes() -> None:
    assert Decisions(4, [0.1, 0.02, 0.03]).figures() == {
        "cost/decision_milliseconds": 7.5,
        "cost/decisions_per_second": 133.3,
        "cost/decision_episodes": 4,
    }
    assert Decisions().figures() == {}


def test_only_the_controller_is_timed(project: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    ticks: Callable[[], float] = lambda: float(next(clock))  # noqa: E731 - a clock
    monkeypatch.setattr("dreamset.pipeline.evaluation.playing.time.perf_counter", ticks)
    evaluate.run(project("evaluate", *SMALL[-2:]))
    assert scores()["cost/decision_milliseconds"] == 500.0  # one tick per step, for two episodes
    assert next(clock) == 2 * 12


def test_examples_of_the_planning_page_run(project: Configure, root: Path) -> None:
    del project
    program: dict[str, Any] = {}
    for block in blocks(root / "docs/planning.md"):
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, "docs/planning.md", "exec"), program)  # lines of the page
            continue
        for line in block.code.splitlines():
            program_name, stage, *overrides = shlex.split(line, comments=True)
            assert program_name == "dreamset"
            stages.STAGES[stage.replace("-", "_")](compose([*TINY, *overrides]))
    assert isinstance(program["search"], dreamset.PlanOptimizer)


def test_the_table_of_the_planning_page_has_every_way_of_acting(root: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (root / "docs/planning.md").read_text(), re.MULTILINE)
    assert sorted(rows[1:]) == sorted(path.stem for path in (root / "configs/acting").glob("*.yaml"))
