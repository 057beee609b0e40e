"""Planning, learning in imagination and cloning towards goals, on a plane whose best actions are known."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamset.behaviors.base import Experience, Learner
from dreamset.behaviors.controller import Agent
from dreamset.behaviors.goals.conditioned import goal_conditioned
from dreamset.behaviors.planning.draws import Generated
from dreamset.behaviors.planning.optimizers import CEM, GradientPlanner, PlanOptimizer
from dreamset.behaviors.planning.planner import Planner, Planning
from dreamset.behaviors.rewards import GoalDistance
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import map_state
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import LearnerOptimisation
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from tests.behaviors.goals.points import STEP, Plane, walks
from tests.builders import seeded, tiny_model

STARTS = torch.tensor([[-0.8, 0.3], [0.5, 0.9], [0.0, 0.0]])
GOALS = torch.tensor([[0.6, -0.4], [0.5, 0.9], [0.7, -0.9]])


def distances(learner: Learner, *, steps: int = 12) -> Tensor:
    """Acts towards three goals at once, with a fixed number of steps: [steps + 1, 3]."""
    controller = learner.controller(goal_conditioned(Plane()))
    agent, x, seen = Agent(controller, generator=seeded()), STARTS, []
    for step in range(steps + 1):
        seen.append((x - GOALS).norm(dim=-1))
        action = agent.act({"state": x, "goal.state": GOALS}, torch.full((3,), step == 0))
        x = x + STEP * action.clamp(-1, 1)
    return torch.stack(seen)


def planner(optimizer: PlanOptimizer, **settings: Any) -> Planner:
    plane = Plane()
    return Planner(4, plane.spec.action, planning=Planning(optimizer, GoalDistance(), **settings))


@pytest.mark.parametrize(
    "optimizer",
    [
        CEM(horizon=5, candidates=64, elites=8, iterations=6),
        GradientPlanner(horizon=5, candidates=4, elites=1, iterations=40, lr=0.1, initial_std=0.5),
    ],
    ids=["cem", "gradient"],
)
def test_planners_reach_the_goal_of_each_episode(optimizer):
    reached = distances(planner(optimizer))
    assert (reached[-1] < 0.08).all()
    assert (reached[:, 1] < 0.25).all()  # it starts at its goal and stays


def test_a_plan_that_is_scored_by_its_last_row_ends_at_the_goal_whatever_its_way():
    optimizer = CEM(horizon=5, candidates=64, elites=8, iterations=12)
    controller = planner(optimizer, last_only=True).controller(goal_conditioned(Plane()))
    start, goals = torch.zeros(2, 2), torch.tensor([[0.4, -0.6], [0.0, 0.1]])
    first = torch.ones(2, dtype=torch.bool)
    state, draw = controller.initial(2), Generated(2, torch.zeros(2, 5, 2), seeded())
    _, plan = controller.plan({"state": start, "goal.state": goals}, first, state, draw)
    places = STEP * plan.mean.cumsum(1)
    torch.testing.assert_close(places[:, -1], goals, atol=0.05, rtol=0)
    assert (places[1, :-1] - goals[1]).norm(dim=-1).max() > 0.1  # it may leave the goal and come back


def test_the_start_and_the_goal_are_encoded_once_per_row_and_once_per_episode():
    plane = Plane()
    controller = planner(CEM(horizon=5, candidates=64, elites=8, iterations=6)).controller(goal_conditioned(plane))
    agent = Agent(controller, generator=seeded())
    plane.encoded = 0
    for step in range(4):
        agent.act({"state": STARTS, "goal.state": GOALS}, torch.full((3,), step == 0))
    assert plane.encoded == 3 * 4 + 3


def trained(behavior: str, *overrides: str, updates: int, within: int = 3) -> Learner:
    config = compose(["preset=tiny", "dataset=pendulum_state", f"behavior={behavior}", "goals=future", *overrides])
    plane = goal_conditioned(Plane())
    torch.manual_seed(0)
    learner = build_part(config["behavior"], plane.feature_size, plane.spec.action)
    optimisation = LearnerOptimisation.model_validate(
        {key: config["behavior_training"][key] for key in ("optimizers", "clip_norm", "clipping")}
    )
    reward = build_part(config["reward"])
    trainer = BehaviorTrainer.configured(optimisation, plane, learner, reward, generator=seeded())
    draws = seeded(1)
    for _ in range(updates):
        trainer.step(walks(32, 4, draws, later=within))
    return learner.requires_grad_(False)


RATES = ["behavior_training.optimizers.actor.lr=3e-3", "behavior_training.optimizers.critic.lr=3e-3"]


@pytest.mark.slow
@pytest.mark.parametrize("behavior", ["dreamer_v1", "dreamer_v3"])
def test_actors_learn_to_reach_goals_in_imagination(behavior):
    reached = distances(trained(behavior, *RATES, "network.hidden=48", "imagination.discount=0.9", updates=150))
    assert reached[-1].mean() < 0.5 * reached[0].mean()


def test_gradients_of_the_distance_flow_through_the_dynamics_to_the_actions_and_not_into_the_goal():
    plane = goal_conditioned(Plane())
    start = map_state(lambda value: value[:, -1], plane.observe(walks(5, 3, seeded(), later=2), seeded()).states)
    action = torch.zeros(5, 2, requires_grad=True)
    after = plane.step(start, action, torch.zeros(5, 0))
    features = torch.stack([plane.features(start), plane.features(after)])
    reward = GoalDistance()(ImaginedTrajectory([], features, action[None]), plane)["goal"]
    (gradient,) = torch.autograd.grad(reward[1].sum(), action)
    own, goal = plane.halves(features[1])
    torch.testing.assert_close(gradient, -STEP * (own - goal).detach())  # of -|x + STEP a - g|^2 / 2


@pytest.mark.slow
def test_cloning_with_hindsight_goals_reaches_goals_that_random_walks_never_aimed_at():
    learner = trained("cloning", "behavior_training.optimizers.actor.lr=3e-3", "network.hidden=48", updates=400)
    goals, x = GOALS, STARTS
    actions = Agent(learner.controller(goal_conditioned(Plane())), generator=seeded()).act(
        {"state": x, "goal.state": goals}, torch.ones(3, dtype=torch.bool)
    )
    towards = ((goals - x) * actions).sum(-1)
    assert towards[0] > 0.3
    assert towards[2] > 0.3


def test_the_distance_is_the_mean_square_between_both_halves_of_the_features():
    plane = goal_conditioned(Plane())
    features = torch.randn(4, 6, 4, generator=seeded())
    terms = GoalDistance()(ImaginedTrajectory([], features, torch.zeros(3, 6, 2)), plane)
    state, goal = np.split(features.double().numpy(), 2, axis=-1)
    np.testing.assert_allclose(terms["goal"], -((state - goal) ** 2).mean(-1), rtol=1e-5)


def test_weights_choose_among_the_named_parts_of_the_features():
    model = goal_conditioned(tiny_model())
    deterministic, stochastic = model.model.feature_parts.values()
    features = torch.randn(3, 5, model.feature_size, generator=seeded())
    trajectory = ImaginedTrajectory([], features, torch.zeros(2, 5, 2))
    state, goal = np.split(features.double().numpy(), 2, axis=-1)
    square = (state - goal) ** 2
    memory, latent = square[..., :deterministic].mean(-1), square[..., deterministic:].mean(-1)
    assert latent.shape == memory.shape
    assert square.shape[-1] == deterministic + stochastic

    def distance(**weights: float) -> Any:
        return -GoalDistance(weights=weights)(trajectory, model)["goal"].numpy()

    np.testing.assert_allclose(distance(stochastic=1.0), latent, rtol=1e-5)
    np.testing.assert_allclose(distance(stochastic=1.0, deterministic=0.5), latent + 0.5 * memory, rtol=1e-5)


def test_wrong_weights_and_missing_goals_are_one_line():
    trajectory = ImaginedTrajectory([], torch.zeros(3, 5, 4), torch.zeros(2, 5, 2))
    with pytest.raises(UserError, match=r"GoalDistance has no goal; call set_goal .* or choose goals=future"):
        GoalDistance()(trajectory, Plane())
    with pytest.raises(UserError, match=r"reward\.weights is {'a': -1\.0}; allowed: 0 or more, one of them positive"):
        GoalDistance(weights={"a": -1.0})
    model = goal_conditioned(tiny_model())
    wide = ImaginedTrajectory([], torch.zeros(3, 5, model.feature_size), torch.zeros(2, 5, 2))
    with pytest.raises(UserError, match=r"reward\.weights names patch; allowed: .*, deterministic, stochastic"):
        GoalDistance(weights={"patch": 1.0})(wide, model)


def test_a_learner_with_the_distance_needs_a_model_with_goals():
    plane, search = Plane(), CEM(horizon=2, candidates=8, elites=2, iterations=1)
    with pytest.raises(UserError, match=r"lacks .*GoalReaching: Has a goal beside its state, .* with goals=future"):
        BehaviorTrainer(plane, planner(search), GoalDistance(), optimizers={}, generator=seeded())
    weighted = GoalDistance(weights={"patches": 1.0})
    with pytest.raises(UserError, match="FeatureParts: Names the parts of its features"):
        BehaviorTrainer(goal_conditioned(plane), planner(search), weighted, optimizers={}, generator=seeded())


def test_experience_of_goals_needs_goals_in_the_batch():
    batch = walks(2, 3, seeded(), later=1)
    experience = Experience.of(goal_conditioned(Plane()), batch, seeded())
    assert torch.equal(experience.features[:, :, 2:], batch.goal["state"][:, None].expand(-1, 3, -1))
    assert torch.equal(experience.starts.goal, batch.goal["state"].repeat_interleave(3, dim=0))
