"""The attention world model learns small systems from random data, and plans nearly optimally in one of them."""

from functools import cache, partial

import pytest
import torch
from torch import Tensor

from dreamset.behaviors.planning.controller import PlanningController
from dreamset.behaviors.planning.optimizers import CEM
from dreamset.behaviors.planning.planner import Planning
from dreamset.behaviors.rewards.goal import GoalDistance
from dreamset.core.records import SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.core.states import named_tensors
from dreamset.models.attention.predictor import FramePredictor
from dreamset.models.attention.world_model import AttentionWorldModel
from dreamset.objectives.reward_only import RewardOnly
from dreamset.pipeline.export.program import trace
from dreamset.pipeline.training.optimizers import GlobalNorm
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded

PATCHES, CHANNELS, SPEED = 4, 6, 0.5
SPEC = DataSpec(
    {"patches": ArraySpec((PATCHES, CHANNELS), "float16", "tiny:0a1b")},
    ActionSpec(2, discrete=False, low=(-1.0, -1.0), high=(1.0, 1.0)),
    {},
    {"patches": VectorStatistics((0.0,), (1.0,))},
)
SEEN = torch.randn(2, PATCHES * CHANNELS, generator=seeded(5))  # what each patch shows of a position


def patches_at(position: Tensor) -> Tensor:
    """[..., P, C] from positions [..., 2]."""
    return (position @ SEEN).unflatten(-1, (PATCHES, CHANNELS)).half()


def windows(position: Tensor, action: Tensor) -> SequenceBatch:
    size, rows = action.shape[:2]
    never = torch.zeros(size, rows, dtype=torch.bool)
    number = torch.arange(rows).expand(size, rows)
    return SequenceBatch(
        {"patches": patches_at(position)}, action, torch.zeros(size, rows), never, never, never, {}, number
    )


def moves(generator: torch.Generator) -> SequenceBatch:
    """A point in a plane that moves by SPEED times its action."""
    action = torch.rand(32, 3, 2, generator=generator) * 2 - 1
    start = torch.rand(32, 1, 2, generator=generator) * 2 - 1
    moved = start + SPEED * action[:, 1:].cumsum(1)
    return windows(torch.cat([start, moved], dim=1), action)


def jumps(generator: torch.Generator, *, late: int) -> SequenceBatch:
    """The position is the action that led to it; with ``late``, rows hold the action that leaves them instead."""
    action = torch.rand(32, 4, 2, generator=generator) * 2 - 1
    return windows(action[:, :3], action[:, late : 3 + late])


def learned(
    *, history: int = 2, change: bool = True, late: int | None = None, updates: int = 250
) -> tuple[AttentionWorldModel, float]:
    """The trained model and the mean of its last losses; ``late`` chooses ``jumps``."""
    sizes = {"depth": 1, "heads": 2, "head_size": 8, "hidden": 64, "action_code": 6, "vector_code": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dynamics = partial(FramePredictor, history=history, change=change, **sizes)
        model = AttentionWorldModel(SPEC, dynamics=dynamics, vector_weight=0.0)
    adam = partial(torch.optim.AdamW, lr=1e-2)
    learner = WorldModelTrainer(model, RewardOnly(model), optimizer=adam, generator=seeded(), clipping=GlobalNorm(10))
    generator, losses = seeded(1), []
    for _ in range(updates):
        batch = moves(generator) if late is None else jumps(generator, late=late)
        losses.append(learner.step(batch)["loss/patches"].item())
    return model.eval().requires_grad_(False), sum(losses[-20:]) / 20


@cache
def in_the_plane() -> tuple[AttentionWorldModel, float]:
    return learned()


def test_moves_are_learned_as_changes() -> None:
    assert in_the_plane()[1] < 0.01


def test_moves_are_learned_by_the_published_output() -> None:
    model, loss = learned(change=False, updates=150)
    batch = moves(seeded(2))
    assert loss < 0.05
    assert model.figures(model.observe(batch, seeded()), batch)["prediction_share"] < 0.3


def test_the_action_that_led_to_a_row_predicts_it_and_the_one_that_leaves_it_cannot() -> None:
    variance = patches_at(jumps(seeded(2), late=0).action).float().square().mean()
    assert learned(history=1, late=0, updates=150)[1] < 0.15 * variance
    assert learned(history=1, late=1, updates=150)[1] > 0.7 * variance


def planner(goals: Tensor, *, horizon: int = 3, iterations: int = 6) -> PlanningController:
    reward = GoalDistance()
    reward.set_goal(patches_at(goals).float().flatten(1))
    optimizer = CEM(horizon=horizon, candidates=64, elites=8, iterations=iterations)
    return Planning(optimizer, reward).controller(in_the_plane()[0], None)


def test_plans_in_the_learned_model_go_straight_to_the_goal() -> None:
    """The goals are less than a step away, so the best first action is that of a single step, and then none."""
    goals = torch.tensor([[0.4, 0.2], [-0.3, 0.45], [0.0, -0.35]])
    controller, generator = planner(goals), seeded()
    position, memory = torch.zeros(3, 2), controller.initial(3)
    for step in range(3):
        is_first = torch.full((3,), step == 0)
        action, memory = controller.act({"patches": patches_at(position)}, is_first, memory, generator)
        if step == 0:
            torch.testing.assert_close(action, goals / SPEED, rtol=0, atol=0.2)
        position = position + SPEED * action
    assert (position - goals).norm(dim=-1).max() < 0.1


def test_the_start_is_read_once_per_row_however_many_plans_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = planner(torch.zeros(1, 2))
    read: list[int] = []
    stepped: list[int] = []
    original_read, original_step = AttentionWorldModel._read, AttentionWorldModel.step

    def counted_read(self: AttentionWorldModel, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        read.append(len(observations["patches"]))
        return original_read(self, observations)

    def counted_step(self: AttentionWorldModel, state: object, *arguments: Tensor) -> object:
        stepped.append(len(arguments[0]))
        return original_step(self, state, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(AttentionWorldModel, "_read", counted_read)
    monkeypatch.setattr(AttentionWorldModel, "step", counted_step)
    observations = {"patches": patches_at(torch.zeros(1, 2))}
    controller.act(observations, torch.ones(1, dtype=torch.bool), controller.initial(1), seeded())
    assert read == [1]
    assert stepped == [64] * 3 * 6


def test_a_planner_in_the_model_is_traced_into_the_same_program() -> None:
    controller = planner(torch.tensor([[0.4, 0.2]]), horizon=2, iterations=1).eval()
    program = trace(controller).module()
    for count in (1, 3):
        observations = {"patches": patches_at(torch.rand(count, 2, generator=seeded()))}
        is_first, memory = torch.ones(count, dtype=torch.bool), controller.initial(count)
        noise = controller.noise(count, seeded())
        action, after = controller.step(observations, is_first, memory, noise)
        inputs = {"observations": observations, "is_first": is_first, "noise": noise}
        outputs = program(**inputs, **named_tensors(memory))
        torch.testing.assert_close(outputs["action"], action)
        torch.testing.assert_close(outputs["past_patches"], after.state.past_patches)
        assert torch.equal(outputs["known"], after.state.known)
