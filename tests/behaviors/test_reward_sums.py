"""Sums of reward functions, and the distance to a goal."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, LearnerLosses
from dreamset.behaviors.planning.controller import PlanningController
from dreamset.behaviors.planning.optimizers import CEM
from dreamset.behaviors.planning.scores import ReturnScore
from dreamset.behaviors.rewards import GoalDistance, PenalizedReward, PredictedReward, RewardFunction, Sum
from dreamset.behaviors.rewards.penalty_weights import FixedWeight
from dreamset.behaviors.rewards.spreads import MeanDisagreement
from dreamset.core.capabilities import GoalReaching, RewardModel, Uncertain
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.models.imagination import imagine
from dreamset.pipeline.config.instantiate import build_part
from tests.behaviors.planning.points import Line, Point
from tests.builders import seeded, tiny_model


class Novelty(RewardFunction):
    """A reward with a constant, and a network of its own."""

    def __init__(self, name: str = "novelty") -> None:
        super().__init__()
        self.name, self.network = name, nn.Linear(1, 1)
        self.calibrated: list[Any] = []

    def forward(self, trajectory: ImaginedTrajectory[Any], model: Any) -> dict[str, Tensor]:  # noqa: ARG002
        return {self.name: self.network(trajectory.features)[..., 0]}

    def calibrate(self, recorded: Iterable[Experience[Any]], model: Any) -> None:  # noqa: ARG002
        self.calibrated += [next(iter(recorded)), next(iter(recorded))]

    def networks(self) -> dict[str, nn.Module]:
        return {self.name: self.network}

    def losses_on(self, experience: Any, model: Any, generator: Any) -> LearnerLosses:  # noqa: ARG002
        return LearnerLosses({self.name: self.network.weight.sum()}, {f"{self.name}/size": torch.ones(())})


def imagined(count: int = 3) -> ImaginedTrajectory[Point]:
    start = Point(torch.arange(count)[:, None].float())
    return imagine(Line(), start, lambda x: 0 * x + 0.5, horizon=2)


def test_a_sum_is_the_weighted_terms_under_their_own_names() -> None:
    trajectory, goal = imagined(), GoalDistance()
    goal.set_goal(torch.tensor([2.0]))
    terms = Sum(rewards={"task": PredictedReward(), "goal": goal}, weights={"goal": 0.25})(trajectory, Line())
    x = trajectory.features[..., 0].numpy()
    assert set(terms) == {"reward", "goal"}
    np.testing.assert_allclose(terms["reward"], -(x**2))
    np.testing.assert_allclose(terms["goal"], -0.25 * (x - 2) ** 2)


def test_a_sum_needs_trains_and_calibrates_what_its_parts_do() -> None:
    first, second = Novelty("first"), Novelty("second")
    penalized = PenalizedReward(spread=MeanDisagreement(), weight=FixedWeight(1.0))
    total = Sum(rewards={"a": PredictedReward(), "b": penalized, "c": first, "d": second}, weights={"c": 7.0})
    assert total.needs == (RewardModel, Uncertain)
    assert total.networks() == {"first": first.network, "second": second.network}
    learned = total.losses_on(None, None, seeded())
    assert learned.losses == {"first": first.network.weight.sum(), "second": second.network.weight.sum()}
    assert set(learned.figures) == {"first/size", "second/size"}
    total.calibrate(iter("abcdef"), None)
    assert [first.calibrated, second.calibrated] == [["a", "b"], ["c", "d"]]
    assert set(total.state_dict()) == {f"rewards.{k}.network.{p}" for k in "cd" for p in ("weight", "bias")}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sum(rewards={}), "the rewards of a Sum are empty"),
        (
            lambda: Sum(rewards={"a": Novelty()}, weights={"b": 1.0}),
            "weights of a Sum name b; allowed: its rewards, a",
        ),
        (lambda: Sum(rewards={"a": Novelty(), "b": Novelty()}).networks(), "b has a network named novelty"),
        (lambda: Sum(rewards={"a": Novelty(), "b": Novelty()})(imagined(), None), "b has a term named novelty"),
        (lambda: GoalDistance()(imagined(), None), "GoalDistance has no goal; call set_goal"),
        (lambda: near(torch.zeros(2, 1))(imagined(3), None), r"the shape \[2, 1\]"),
        (lambda: near(torch.zeros(4))(imagined(), None), r"the shape \[1, 4\]"),
    ],
)
def test_wrong_sums_and_goals_are_one_line(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


def near(goal: Tensor) -> GoalDistance:
    reward = GoalDistance()
    reward.set_goal(goal)
    return reward


def test_a_sum_is_built_from_its_configuration() -> None:
    rewards = {
        "task": {"_target_": "dreamset.behaviors.rewards.PredictedReward"},
        "goal": {"_target_": "dreamset.behaviors.rewards.GoalDistance"},
    }
    total = build_part({"_target_": "dreamset.behaviors.rewards.Sum", "rewards": rewards, "weights": {"goal": 2.0}})
    assert total.weights == {"task": 1.0, "goal": 2.0}
    assert total.needs == (RewardModel, GoalReaching)
    total.rewards["goal"].set_goal(torch.zeros(3))
    assert total.needs == (RewardModel,)


def test_the_goal_term_is_the_negative_mean_square_of_the_difference() -> None:
    features = torch.randn(4, 6, 5, generator=seeded())
    trajectory = ImaginedTrajectory([], features, torch.zeros(3, 6, 1))
    goals = torch.randn(2, 5, generator=seeded(1))
    one, two = near(goals[0])(trajectory, None)["goal"], near(goals)(trajectory, None)["goal"]
    difference = features.numpy()[:, :, None] - goals.numpy()  # [H + 1, M, N, F]
    expected = -(difference.astype(np.float64) ** 2).mean(-1)
    np.testing.assert_allclose(one, expected[..., 0], rtol=1e-5)
    np.testing.assert_allclose(two, np.where(np.arange(6) < 3, expected[..., 0], expected[..., 1]), rtol=1e-5)


def test_a_goal_is_saved_and_moves_with_the_reward() -> None:
    goals = torch.randn(2, 5, generator=seeded())
    saved = near(goals).state_dict()
    loaded = near(torch.zeros(3))
    loaded.load_state_dict(saved)
    assert torch.equal(loaded.goal, goals)
    assert near(goals).double().goal.dtype == torch.float64
    loaded.load_state_dict(GoalDistance().state_dict())
    assert loaded.goal is None
    with pytest.raises(ValueError, match=r"\[F\] or \[N, F\]"):
        loaded.set_goal(torch.zeros(1, 2, 3))


def test_a_planner_reaches_the_goal_of_each_episode_without_any_reward_of_the_model() -> None:
    goals, optimizer = torch.tensor([[0.5], [-0.8]]), CEM(horizon=2, candidates=64, elites=8, iterations=5)
    controller = PlanningController(Line(), optimizer, ReturnScore(near(goals)))
    action, _ = controller.act(
        {"x": torch.zeros(2, 1)}, torch.ones(2, dtype=torch.bool), controller.initial(2), seeded()
    )
    torch.testing.assert_close(action, 2 * goals, atol=0.1, rtol=0)


def test_the_goal_term_has_a_gradient_through_a_recurrent_model() -> None:
    model = tiny_model().requires_grad_(False)
    action = torch.zeros(2, 2, requires_grad=True)
    trajectory = imagine(model, model.initial(2), lambda _: action, horizon=2)
    near(torch.ones(model.feature_size))(trajectory, model)["goal"].sum().backward()
    assert action.grad.abs().sum() > 0
