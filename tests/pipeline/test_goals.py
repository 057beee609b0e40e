"""Goals in every stage: planning, actors, clones, fine-tuning, dreams, export, and what they refuse."""

import json
import logging
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import torch

from dreamset.behaviors.goals.conditioned import GoalConditioned
from dreamset.core.errors import UserError
from dreamset.datasets import Store, write_store
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.artifacts.acting import load_policy
from dreamset.pipeline.artifacts.description import read_description
from dreamset.pipeline.config.compose import compose, composed
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.dream_errors import Dream
from dreamset.pipeline.evaluation.scores import episode_table, summarize
from dreamset.pipeline.export.program import export_policy
from dreamset.pipeline.export.standalone.policy import Policy
from dreamset.pipeline.report.dream_video import Clip
from dreamset.pipeline.stages import evaluate, finetune, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tools import dream
from dreamset.pipeline.tools.dream_scenes import Options
from tests.docs_blocks import blocks
from tests.pipeline.planes import Plane, Walks, make, shown

TINY = ["preset=tiny", "dataset=pendulum_state", "objective=reward_only", "behavior_training.batch.length=6"]
PLAN = [
    "behavior=goal_planning",
    "acting.optimizer.candidates=8",
    "acting.optimizer.elites=2",
    "acting.optimizer.iterations=2",
]
MAKE = "tests.pipeline.planes.make"
WORLD_MODEL, POLICY = Path("runs/world_model/reward_only-0/model"), Path("runs/behavior/reward_only-0/model")
RESULTS = Path("runs/evaluation/reward_only-0")
CPU = torch.device("cpu")

Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of random walks and a world model of them."""
    folder = tmp_path_factory.mktemp("plane")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(folder)
        write_store(Walks(), "data/stores/pendulum_state")
        train_world_model.run(stages.train_world_model(compose(TINY)))
    return folder


@pytest.fixture
def settings(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """``settings("evaluate", *overrides, limit=None)``: one stage's settings; keywords are the environment's."""
    (tmp_path / "data").symlink_to(trained / "data")
    (tmp_path / "runs/world_model").mkdir(parents=True)
    (tmp_path / "runs/world_model/reward_only-0").symlink_to(trained / "runs/world_model/reward_only-0")
    monkeypatch.chdir(tmp_path)

    def of_stage(stage: str, *overrides: str, **environment: Any) -> dict[str, Any]:
        values = stages.STAGES[stage](compose([*TINY, *overrides]))
        made = {"_target_": MAKE, "_partial_": True, **environment}
        return values | ({"environment": made} if "environment" in values else {})

    return of_stage


def metrics() -> dict[str, float]:
    figures: dict[str, float] = json.loads((RESULTS / "metrics.json").read_text())
    return figures


def test_a_planner_acts_towards_the_goals_of_the_environment_and_success_is_reported(settings: Settings) -> None:
    learn_behavior.run(settings("learn_behavior", *PLAN))
    saved = read_description(POLICY, made_by="")
    assert saved.lineage["goals"] == {"within": 50, "rows": 3}
    assert sorted(saved.spec.observations) == ["goal.image", "goal.state", "image", "state"]
    evaluate.run(settings("evaluate", *PLAN))
    figures, table = metrics(), pd.read_csv(RESULTS / "episodes.csv")
    assert figures["evaluation/success_rate"] == table["success"].mean() == figures["evaluation/return_mean"]
    assert figures["evaluation/success_rate_low"] <= figures["evaluation/success_rate"]
    assert (table["length"] <= 20).all()
    assert (table["length"][~table["success"]] == 20).all()  # the budget is fixed
    assert "evaluation/imagined_return" not in figures  # the model's reward knows nothing of goals


def test_no_environment_takes_part_in_the_search_of_plans(settings: Settings) -> None:
    learn_behavior.run(settings("learn_behavior", *PLAN))
    evaluator = evaluate.load_evaluator(evaluate.Evaluate.of(**settings("evaluate", *PLAN)), make, CPU)
    Plane.steps = 0
    episodes = evaluator.play(3)
    assert Plane.steps == sum(len(episode.rewards) for episode in episodes)


@pytest.mark.parametrize("behavior", ["cloning", "dreamer_v3", "latent_sac"])
def test_every_behaviour_learns_towards_goals(settings: Settings, behavior: str) -> None:
    goals = [f"behavior={behavior}", "goals=future", "goals.rows=2", "goals.within=4"]
    learn_behavior.run(settings("learn_behavior", *goals))
    assert read_description(POLICY, made_by="").lineage["goals"] == {"within": 4, "rows": 2}
    evaluate.run(settings("evaluate", *goals))
    assert 0 <= metrics()["evaluation/success_rate"] <= 1
    agent = load_policy(POLICY, WORLD_MODEL)
    assert isinstance(agent.controller.model, GoalConditioned)
    assert agent.controller.model.rows == 2
    goal = [shown(np.array(place)) for place in ((0.9, 0.9), (-0.9, -0.9))]
    rows = {name: torch.as_tensor(np.stack([value] * 2)) for name, value in shown(np.zeros(2)).items()}
    rows |= {f"goal.{name}": torch.as_tensor(np.stack([one[name] for one in goal])) for name in goal[0]}
    first, second = agent.act(rows, torch.ones(2, dtype=torch.bool))
    assert not torch.equal(first, second)  # the goal alone differs


def test_a_behaviour_without_goals_knows_nothing_of_them(settings: Settings) -> None:
    learn_behavior.run(settings("learn_behavior"))
    saved = read_description(POLICY, made_by="")
    assert "goals" not in saved.lineage
    assert sorted(saved.spec.observations) == ["image", "state"]
    assert composed(TINY).config.get("goals") is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"goals": False},
            r"does not show the goal: goal\.image, goal\.state missing among its observations, image, state",
        ),
        ({"limit": None}, "sets goals without a budget of steps; wrap it with gymnasium.wrappers.TimeLimit"),
    ],
)
def test_an_environment_without_goals_or_without_a_budget_is_refused(
    settings: Settings, environment: dict[str, Any], said: str
) -> None:
    learn_behavior.run(settings("learn_behavior", *PLAN))
    with pytest.raises(UserError, match=said):
        evaluate.run(settings("evaluate", *PLAN, **environment))


def test_what_goals_need_is_refused_in_one_line_where_it_is_missing(settings: Settings) -> None:
    with pytest.raises(UserError, match="GoalReaching: Has a goal beside its state, as every world model has with"):
        learn_behavior.run(settings("learn_behavior", "reward=goal"))
    with pytest.raises(
        UserError, match=r"goals\.within belongs to none of the selected parts; choose goals=future too"
    ):
        compose([*TINY, "goals.within=3"])
    train_world_model.run(
        settings("train_world_model", "world_model=observations") | {"output": "runs/static/reward_only-0"}
    )
    static = settings("learn_behavior", *PLAN) | {"world_model": "runs/static/reward_only-0/model"}
    with pytest.raises(UserError, match=r"Observations with goals lacks \(Dynamics: Predicts the next state"):
        learn_behavior.run(static)
    learn_behavior.run(settings("learn_behavior"))
    with pytest.raises(UserError, match=r"planning for the reward GoalDistance needs .*\(GoalReaching"):
        evaluate.run(settings("evaluate", "acting=cem", "reward=goal"))


def test_windows_as_long_as_episodes_are_a_warning(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        learn_behavior.run(settings("learn_behavior", *PLAN, "behavior_training.batch.length=20"))  # draws none
        learn_behavior.run(settings("learn_behavior", "goals=future", "behavior=cloning"))
        assert "goals lie after" not in caplog.text
        learn_behavior.run(
            settings("learn_behavior", "goals=future", "behavior=cloning", "behavior_training.batch.length=20")
        )
    assert "goals lie after windows of 20 rows, but half of the episodes have at most 31" in caplog.text
    assert "lower behavior_training.batch.length to 15 or less" in caplog.text


def test_interrupted_learning_towards_goals_resumes_with_the_same_goals(settings: Settings) -> None:
    device, store = CPU, Store.open("data/stores/pendulum_state")
    of_stage = learn_behavior.LearnBehavior.of(**settings("learn_behavior", "goals=future"))
    model = learn_behavior.towards(learn_behavior.load_world_model(WORLD_MODEL)[0], of_stage.goals)

    def losses(training: Any, updates: int) -> list[float]:
        return [float(training.trainer.step(training.sampler.sample())["loss/actor"]) for _ in range(updates)]

    whole = learn_behavior.start(of_stage, store, model, device)
    expected = losses(whole, 4)
    first = learn_behavior.start(of_stage, store, model, device)
    assert losses(first, 2) == expected[:2]
    resumed = learn_behavior.start(of_stage, store, model, device)
    resumed.load_state_dict(first.state_dict())
    assert losses(resumed, 2) == expected[2:]


def test_fine_tuning_keeps_the_goals(settings: Settings) -> None:
    goals = ["goals=future", "goals.rows=2", "finetuning.environment_steps=60", "finetuning.evaluate_every=60"]
    learn_behavior.run(settings("learn_behavior", *goals))
    finetune.run(settings("finetune", *goals, "finetuning.train_ratio=4"))
    folder = Path("runs/finetune/reward_only-0")
    assert "evaluation/success_rate" in json.loads((folder / "metrics.json").read_text())
    assert read_description(folder / "policy", made_by="").lineage["goals"] == {"within": 50, "rows": 2}
    assert isinstance(load_policy(folder / "policy", folder / "world_model").controller.model, GoalConditioned)
    assert sorted(Store.open(folder / "online").spec.observations) == [
        "image",
        "state",
    ]  # hindsight needs no recorded goals


@pytest.mark.parametrize("overrides", [PLAN, ["goals=future", "goals.rows=2"]], ids=["planner", "actor"])
def test_an_exported_policy_has_the_goals_as_inputs_and_acts_as_in_the_package(
    settings: Settings, overrides: list[str]
) -> None:
    learn_behavior.run(settings("learn_behavior", *overrides))
    export_policy(WORLD_MODEL, POLICY, Path("export"), environment=None)
    exported, draws = Policy("export", count=2, seed=0), torch.Generator().manual_seed(0)
    assert [entry["name"] for entry in exported.inputs["observations"]] == [
        "goal.image",
        "goal.state",
        "image",
        "state",
    ]
    controller = load_policy(POLICY, WORLD_MODEL).controller
    memory, places = controller.initial(2), np.random.default_rng(0)
    for row in range(3):
        first = np.array([row == 0, row in (0, 2)])
        rows = [
            {**shown(a), **{f"goal.{name}": value for name, value in shown(b).items()}}
            for a, b in places.uniform(-1, 1, (2, 2, 2))
        ]
        observed = {name: np.stack([one[name] for one in rows]) for name in rows[0]}
        tensors = {name: torch.as_tensor(value) for name, value in observed.items()}
        noise = torch.randn(2, *exported.inputs["noise"]["shape"], generator=draws)
        action, memory = controller.step(tensors, torch.as_tensor(first), memory, noise)
        np.testing.assert_allclose(exported.act(observed, first), action, atol=1e-5)


HERE = ["~dataset.environment", f"+dataset.environment={{_target_: {MAKE}, _partial_: true}}"]
NOWHERE = ["~dataset.environment", "+dataset.environment=null"]


@pytest.mark.parametrize("place", [HERE, NOWHERE], ids=["environment", "records"])
def test_a_dream_shows_the_goal_beside_the_imagined_rows(settings: Settings, place: list[str]) -> None:
    learn_behavior.run(settings("learn_behavior", *PLAN))
    overrides = [*TINY, *PLAN, *place, "validation.probe_decoder.updates=2"]
    options = Options(with_policy=True, context=2, horizon=4, output=Path("dream.png"))
    lines = dream.run(composed(overrides), options)
    assert any("dream.png" in line for line in lines)
    without = replace(options, with_policy=False, output=Path("without.png"))
    dream.run(composed(overrides), without)
    assert iio.imread("dream.png").shape[0] > iio.imread("without.png").shape[0]  # one more row of images


def test_the_goal_is_a_column_of_its_own_in_a_video() -> None:
    rows = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)
    error = np.zeros(3, np.float32)
    plain = Dream(1, {"image": rows}, {"image": rows}, {}, {"image": error}, 1.0, error, None, None, "")
    clip, bare = Clip(replace(plain, goal={"image": rows[2]}), []), Clip(plain, [])
    assert clip.frame(0).shape[1] > bare.frame(0).shape[1]
    goal, dreamed = clip._row_of("image", 0)[3], clip._row_of("image", 2)[0]
    assert np.array_equal(goal, dreamed)  # the truth of row 2 is the goal
    unseen = Clip(replace(plain, truth={}), [])  # the environment does not show what the model only decodes
    assert np.array_equal(unseen._row_of("image", 0)[1], bare._row_of("image", 0)[1])


def test_examples_of_the_page_on_goals_run(settings: Settings, root: Path) -> None:
    learn_behavior.run(settings("learn_behavior", "goals=future"))
    for kind in ("world_model", "behavior"):  # the names on the page
        Path(f"runs/{kind}").joinpath("reconstruction-0").symlink_to(Path(f"runs/{kind}/reward_only-0").resolve())
    program: dict[str, Any] = {}
    for block in blocks(root / "docs/goals.md"):
        code = block.code.replace("two_room_random", "pendulum_state")
        if block.language == "python":
            exec(compile("\n" * block.line + code, "docs/goals.md", "exec"), program)  # lines of the page
        if block.language == "bash":
            for line in code.splitlines():
                name, command, *overrides = shlex.split(line)
                assert name == "dreamset"
                stage = "evaluate" if command == "dream" else command.replace("-", "_")
                stages.STAGES[stage](compose([*TINY, *(text for text in overrides if text != "--with-policy")]))
    assert program["state"].shape == program["target"].shape


def test_success_is_reported_only_if_the_environment_tells_it() -> None:
    rows = np.zeros((3, 1), np.float32)
    told = RecordedEpisode(0, {"x": rows}, {"is_success": np.array([False, True, False])}, rows[:2], np.zeros(2), False)
    silent = replace(told, infos={})
    evaluation = Evaluation.model_validate(compose(TINY)["evaluation"])
    lineage = {"reference": {"low": None, "high": None}, "dataset_return": {"mean": 0.0}}
    never, began_there = (replace(told, infos={"is_success": np.array([at, False, False])}) for at in (False, True))
    table = episode_table([told, never, told, began_there], np.zeros(4), context=1)
    assert table["success"].tolist() == [True, False, True, False]
    assert summarize(evaluation, table, lineage)["evaluation/success_rate"] == 0.5
    assert "success" not in episode_table([told, silent], np.zeros(2), context=1)
