"""A goal beside the state: what it keeps of the world model, and when it is encoded."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamset.behaviors.goals.conditioned import GoalConditioned, goal_conditioned
from dreamset.core.capabilities import (
    ActionFree,
    Dynamics,
    FeatureParts,
    GoalReaching,
    Proposing,
    Prunable,
    Representation,
    RewardModel,
    Trainable,
    Uncertain,
    Valued,
)
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import map_state
from dreamset.models.imagination import imagine
from dreamset.pipeline.config.instantiate import build_part
from tests.behaviors.goals.points import Plane, walks
from tests.builders import HIGH, LOW, seeded, tiny_batch, tiny_config, tiny_model, tiny_spec
from tests.foreign.models import Code, LatentModel, TokenModel, flat

KEPT = (Representation, Dynamics, RewardModel, Uncertain, FeatureParts, Prunable, ActionFree)


class Selective(LatentModel):
    """Reads the state alone; the image is a target of its training only."""

    reads = ("state",)

    def __init__(self, spec: Any) -> None:
        super().__init__(replace(spec, observations={"state": spec.observations["state"]}))
        self.read, self.spec = self.spec, spec

    def filter(self, state: Any, action: Tensor, observations: Any, is_first: Tensor, noise: Tensor) -> Code:  # noqa: ARG002
        return Code(torch.tanh(self.encoder(flat(self.read, observations))))


def observations_model() -> Any:
    return build_part(tiny_config("world_model=observations")["world_model"], tiny_spec())


MODELS = [tiny_model, lambda: LatentModel(tiny_spec()), lambda: TokenModel(tiny_spec()), observations_model, Plane]
NAMES = ["recurrent", "latent", "tokens", "observations", "plane"]


def goal_batch(**goal: Tensor) -> Any:
    """The tiny batch; the goals are its last rows."""
    batch = tiny_batch()
    return replace(batch, goal={name: rows[:, -1] for name, rows in batch.observations.items()} | goal)


@pytest.mark.parametrize("make", MODELS, ids=NAMES)
def test_it_has_exactly_the_capabilities_of_the_model_that_do_not_need_its_own_task(make):
    model = make()
    goals = goal_conditioned(model)
    assert [isinstance(goals, capability) for capability in KEPT] == [isinstance(model, c) for c in KEPT]
    assert isinstance(goals, GoalReaching)
    assert not isinstance(goals, (Valued, Proposing, Trainable))


@pytest.mark.parametrize("make", MODELS[:4], ids=NAMES[:4])
def test_states_are_those_of_the_model_and_the_goal_is_a_first_row(make):
    model, batch = make().requires_grad_(False), goal_batch()
    goals = goal_conditioned(model)
    plain, both = model.observe(batch, seeded()), goals.observe(batch, seeded())
    state, goal = goals.halves(both.features)
    torch.testing.assert_close(state, plain.features)
    torch.testing.assert_close(goals.features(both.states), both.features)
    assert torch.equal(both.embedding, plain.embedding)
    first = torch.ones(3, dtype=torch.bool)
    noise = torch.zeros_like(model.noise((3,), seeded()))
    encoded = model.filter(model.initial(3), torch.zeros(3, 2), batch.goal, first, noise)
    torch.testing.assert_close(goal, model.features(encoded)[:, None].expand_as(goal))


def test_goals_of_a_gaussian_state_are_its_mean():
    model, count = tiny_model().requires_grad_(False), 2000
    goals, batch = goal_conditioned(model), goal_batch()
    many = {name: value[:1].expand(count, *value.shape[1:]) for name, value in batch.goal.items()}
    first, noise = torch.ones(count, dtype=torch.bool), model.noise((count,), seeded())
    drawn = model.features(model.filter(model.initial(count), torch.zeros(count, 2), many, first, noise))
    torch.testing.assert_close(drawn.mean(0), goals.encoded(batch.goal)[0], atol=0.1, rtol=0)


@pytest.mark.parametrize("make", [tiny_model, lambda: LatentModel(tiny_spec())], ids=["recurrent", "latent"])
def test_imagination_moves_the_state_alone_and_predicts_as_the_model_does(make):
    model, batch = make().requires_grad_(False), goal_batch()
    goals = goal_conditioned(model)
    start = map_state(lambda value: value[:, -1], goals.observe(batch, seeded()).states)
    actions = torch.randn(4, 3, 2, generator=seeded(1)).clamp(-1, 1)

    def policy() -> Any:
        rows = iter(actions)
        return lambda _: next(rows)

    both = imagine(goals, start, policy(), horizon=4, generator=seeded(2))
    plain = imagine(model, start.state, policy(), horizon=4, generator=seeded(2))
    own, goal = goals.halves(both.features)
    torch.testing.assert_close(own, plain.features)
    assert torch.equal(goal, start.goal.expand_as(goal))
    torch.testing.assert_close(goals.reward(both), model.reward(plain))
    torch.testing.assert_close(goals.continuation(both), model.continuation(plain))
    torch.testing.assert_close(goals.own(both).features, plain.features)


def test_filter_encodes_the_goal_of_the_first_row_only():
    plane = Plane()
    goals = goal_conditioned(plane)
    rows = {"state": torch.zeros(2, 2), "goal.state": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    new = torch.tensor([True, True])
    state = goals.filter(goals.initial(2), torch.zeros(2, 2), rows, new, torch.zeros(2, 0))
    assert plane.encoded == 4
    later = rows | {"goal.state": torch.full((2, 2), 9.0)}
    state = goals.filter(state, torch.zeros(2, 2), later, ~new, torch.zeros(2, 0))
    assert plane.encoded == 6  # the goal is not encoded again
    assert torch.equal(state.goal, rows["goal.state"])
    state = goals.filter(state, torch.zeros(2, 2), later, torch.tensor([False, True]), torch.zeros(2, 0))
    assert state.goal.tolist() == [[1.0, 2.0], [9.0, 9.0]]


def test_filtering_row_by_row_gives_the_states_of_a_recorded_window():
    goals = goal_conditioned(LatentModel(tiny_spec()).requires_grad_(False))
    batch = goal_batch()
    state = goals.initial(3)
    for t in range(batch.action.shape[1]):
        rows = {name: value[:, t] for name, value in batch.observations.items()}
        rows |= {f"goal.{name}": value for name, value in batch.goal.items()}
        state = goals.filter(state, batch.action[:, t], rows, batch.is_first[:, t], torch.zeros(3, 0))
    torch.testing.assert_close(goals.features(state), goals.observe(batch, seeded()).features[:, -1])


def test_more_rows_let_a_memory_settle_at_the_goal():
    model = tiny_model().requires_grad_(False)
    batch, first = goal_batch(), torch.ones(3, dtype=torch.bool)
    state = model.initial(3)
    nearest = torch.zeros(3, 2).clamp(torch.tensor(LOW), torch.tensor(HIGH))  # to the action zero
    for row in range(3):
        noise = torch.zeros(3, model.noise((), seeded()).shape[-1])
        state = model.filter(state, nearest, batch.goal, first if row == 0 else ~first, noise)
    one, three = (goal_conditioned(model, rows=rows).encoded(batch.goal) for rows in (1, 3))
    torch.testing.assert_close(three, model.features(state))
    assert (one - three).abs().max() > 1e-4


def test_goals_come_from_the_batch_or_from_the_first_rows_or_from_the_start():
    goals = goal_conditioned(Plane())
    batch = walks(2, 3, seeded(), later=2)
    there = batch.goal["state"]
    without = replace(batch, goal=None)
    rows = there[:, None] + torch.arange(3.0)[:, None]
    observed = replace(without, observations={**batch.observations, "goal.state": rows})
    start = replace(goals.initial(2), goal=there)
    for rollout in (
        goals.observe(batch, seeded()),
        goals.observe(observed, seeded()),
        goals.observe(without, seeded(), start),
    ):
        assert torch.equal(rollout.states.goal, there[:, None].expand(-1, 3, -1))
    with pytest.raises(UserError, match="the batch has no goals, but the behaviour acts towards goals; draw them"):
        goals.observe(without, seeded())


def test_the_specification_has_the_goal_of_every_observation():
    spec, goals = tiny_spec(), goal_conditioned(tiny_model())
    assert set(goals.spec.observations) == {"state", "image", "goal.state", "goal.image"}
    assert goals.spec.statistics["goal.state"] == spec.statistics["state"]
    assert goals.feature_size == 2 * goals.model.feature_size
    with pytest.raises(UserError, match=r"the world model observes goal\.image, goal\.state, but a goal is given"):
        goal_conditioned(Plane(goals.spec))
    with pytest.raises(UserError, match=r"goals\.rows is 0; allowed: 1 or more"):
        goal_conditioned(Plane(), rows=0)


def test_only_what_the_model_reads_has_a_goal():
    model = Selective(tiny_spec())
    goals, batch = goal_conditioned(model.requires_grad_(False)), goal_batch()
    assert list(goals.spec.observations) == ["state", "image", "goal.state"]
    assert list(goals.reads) == ["state", "goal.state"]
    rows = {"state": batch.observations["state"][:, 0], "goal.state": batch.goal["state"]}
    first = torch.ones(3, dtype=torch.bool)
    state = goals.filter(goals.initial(3), batch.action[:, 0], rows, first, torch.zeros(3, 0))
    assert torch.equal(state.goal, goals.encoded({"state": batch.goal["state"]}))


def test_pruning_and_copies_keep_goal_and_rows():
    model = tiny_model().requires_grad_(False)
    batch, goals = goal_batch(), goal_conditioned(model, rows=2)
    for other in (goals.for_acting(), copy.deepcopy(goals)):
        assert isinstance(other, GoalConditioned)
        torch.testing.assert_close(other.encoded(batch.goal), goals.encoded(batch.goal))


def test_uncertainty_is_that_of_the_model():
    model = tiny_model("world_model/ensemble=one_step").requires_grad_(False)
    goals, batch = goal_conditioned(model), goal_batch()
    trajectory = ImaginedTrajectory.recorded(*_states(goals.observe(batch, seeded())), batch.action)
    plain = ImaginedTrajectory.recorded(*_states(model.observe(batch, seeded())), batch.action)
    torch.testing.assert_close(goals.members(trajectory).mean(), model.members(plain).mean())


def _states(rollout: Any) -> tuple[Any, Tensor]:
    return rollout.states, rollout.features
