"""Planning as a behaviour, and with the critic and the actor of a learned one."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import ActionDistribution, BoundedNormal, TruncatedNormal
from dreamset.behaviors.base import ActorLearner, LearnerLosses
from dreamset.behaviors.planning.optimizers import CEM, CategoricalCEM
from dreamset.behaviors.planning.planner import Planned, Planner, Planning
from dreamset.behaviors.planning.scores import TerminalValue
from dreamset.behaviors.rewards import PenalizedReward, PredictedReward
from dreamset.behaviors.rewards.penalty_weights import TunedWeight
from dreamset.behaviors.rewards.spreads import MeanDisagreement
from dreamset.core.capabilities import Dynamics, RewardModel
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.models.distributions import OneHotCategorical, TanhNormal
from dreamset.models.imagination import imagine
from dreamset.pipeline.config.instantiate import build_part
from tests.behaviors.planning.points import CHOICES, CONTINUOUS, Line, Point
from tests.builders import seeded, tiny_config, tiny_model

SMALL: dict[str, Any] = {"horizon": 2, "candidates": 4, "elites": 2, "iterations": 1}


class Advised(Line):
    """A model with a critic and a policy of its own."""

    def values(self, trajectory: ImaginedTrajectory[Point], reward: Tensor) -> Tensor:  # noqa: ARG002
        return reward[None]

    def propose(self, features: Tensor, noise: Tensor) -> Tensor:  # noqa: ARG002
        return 0 * noise


class Learned(ActorLearner):
    """A behaviour whose actor gives a fixed distribution."""

    def __init__(self, distribution: ActionDistribution) -> None:
        super().__init__()
        self.actor = lambda _features: distribution

    def networks(self) -> Mapping[str, nn.Module]:
        return {}

    def losses_on(self, *_: Any) -> LearnerLosses:
        return LearnerLosses({}, {})


class LearnedWithCritic(Learned):
    """A behaviour with a critic, too."""

    def values(self, trajectory: ImaginedTrajectory[Any], reward: Tensor) -> Tensor:  # noqa: ARG002
        return 2 * reward[None]


def planning(**settings: Any) -> Planning:
    return Planning(CEM(**SMALL), PredictedReward(), **settings)


NARROW = TanhNormal(torch.zeros(1), torch.ones(1))


@pytest.mark.parametrize(("behavior", "own"), [(LearnedWithCritic(NARROW), True), (None, False)])
def test_critic_and_policy_of_the_behaviour_come_before_those_of_the_model(behavior: Any, own: bool) -> None:
    model = Advised()
    how = planning(terminal_value=TerminalValue(), proposals=3, discount=0.9)
    controller = how.controller(model, behavior or Planner(1, CONTINUOUS, planning=how))
    advisor = behavior if own else model
    assert controller.policy is advisor
    assert controller.score.critic is advisor
    assert (controller.proposals, controller.score.discount) == (3, 0.9)


def test_without_the_settings_neither_critic_nor_policy_is_used() -> None:
    controller = Planned(planning(), LearnedWithCritic(NARROW)).controller(Advised())
    assert controller.policy is None
    assert controller.score.critic is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"terminal_value": TerminalValue()}, "acting.terminal_value needs a critic, but Planner and Line have none"),
        ({"proposals": 2}, "acting.proposals needs a policy, but Planner and Line have none; set acting.proposals=0"),
    ],
)
def test_a_missing_critic_or_policy_is_one_line(settings: dict[str, Any], said: str) -> None:
    how = planning(**settings)
    with pytest.raises(UserError, match=said):
        how.controller(Line(), Planner(1, CONTINUOUS, planning=how))


def test_a_planner_learns_nothing_and_needs_what_its_reward_needs() -> None:
    how = planning()
    behavior = Planner(1, CONTINUOUS, planning=how)
    assert behavior.networks() == {}
    assert behavior.acting_reward is how.reward
    assert behavior.acting_needs == how.needs == Planned(how, behavior).acting_needs == (Dynamics, RewardModel)
    action, _ = behavior.controller(Line()).act(
        {"x": torch.ones(1, 1)}, torch.tensor([True]), behavior.controller(Line()).initial(1), seeded()
    )
    assert action.shape == (1, 1)
    assert behavior.imagine(Line(), Point(torch.ones(2, 1)), horizon=3, generator=seeded()).action.shape == (3, 2, 1)


def test_planning_refuses_actions_that_its_optimizer_cannot_search() -> None:
    with pytest.raises(UserError, match="CEM searches continuous actions"):
        Planner(1, CHOICES, planning=planning())
    Planner(1, CHOICES, planning=Planning(CategoricalCEM(**SMALL), PredictedReward()))


def test_acting_does_not_tune_a_penalty_and_needs_a_tuned_one() -> None:
    weight = TunedWeight(0.5)
    model = tiny_model("world_model/ensemble=priors")
    how = Planning(CEM(**SMALL), PenalizedReward(spread=MeanDisagreement(), weight=weight))
    controller = how.controller(model, None)
    state, draw = model.initial(2), lambda *sizes: torch.zeros(2, *sizes)
    with pytest.raises(UserError, match="reward/weight=tuned has no value before"):
        controller.search(state, controller.initial(2).plan, draw)
    weight.train()(torch.ones(3))
    learned = {name: value.clone() for name, value in weight.state_dict().items()}
    how.controller(model, None).search(state, controller.initial(2).plan, draw)
    assert all(torch.equal(value, learned[name]) for name, value in weight.state_dict().items())


@pytest.mark.parametrize("generation", ["dreamer_v1", "dreamer_v3"])
def test_the_value_of_an_actor_critic_is_its_critics_mean_of_the_last_row(generation: str) -> None:
    overrides = (f"world_model={generation}", f"behavior={generation}")
    model = tiny_model(*overrides)
    learner = build_part(tiny_config(*overrides)["behavior"], model.feature_size, model.spec.action)
    trajectory = imagine(model, model.initial(3), lambda features: torch.zeros(len(features), 2), horizon=2)
    values = learner.values(trajectory, torch.full((3,), torch.nan))
    torch.testing.assert_close(values, learner.critic(model.features(trajectory.rows[2])).mean[None])


LOCATION, SCALE = torch.tensor([[0.8, -0.3]]), torch.tensor([[0.5, 1.5]])
ACTORS = [
    TruncatedNormal(LOCATION, SCALE),
    BoundedNormal(LOCATION, 0.1 * SCALE),
    TanhNormal(LOCATION, SCALE),
    OneHotCategorical(torch.tensor([[0.2, 0.7, 0.1]]).log(), unimix=0.01),
]


@pytest.mark.parametrize("distribution", ACTORS, ids=lambda value: type(value).__name__)
def test_a_proposal_without_noise_is_the_mode(distribution: Any) -> None:
    noise = torch.zeros_like(distribution.mode)
    torch.testing.assert_close(Learned(distribution).propose(torch.zeros(1, 3), noise), distribution.mode)


def phi(x: Tensor) -> Tensor:
    return torch.special.ndtr(x)


@pytest.mark.parametrize("x", [-1.5, -0.2, 0.7])
def test_a_proposal_with_noise_is_the_quantile_of_the_noise(x: float) -> None:
    noise, wanted = torch.full((1, 2), x), 0.5 * (1 + math.erf(x / math.sqrt(2)))
    truncated, bounded, tanh = (Learned(actor).propose(torch.zeros(1, 3), noise) for actor in ACTORS[:3])
    low, high = phi((-1 - LOCATION) / SCALE), phi((1 - LOCATION) / SCALE)
    below = (phi((truncated - LOCATION) / SCALE) - low) / (high - low)  # the distribution function of the sample
    torch.testing.assert_close(below, torch.full((1, 2), wanted), atol=1e-4, rtol=0)
    torch.testing.assert_close(bounded, (LOCATION + 0.1 * SCALE * x).clamp(-1, 1))
    torch.testing.assert_close(tanh.atanh(), LOCATION + SCALE * x, atol=1e-4, rtol=1e-4)


def test_proposed_choices_have_the_policys_frequencies() -> None:
    many = 20_000
    distribution = OneHotCategorical(torch.tensor([0.2, 0.7, 0.1]).log().expand(many, 3))
    noise = torch.randn(many, 3, generator=seeded())
    proposed = Learned(distribution).propose(torch.zeros(many, 1), noise)
    torch.testing.assert_close(proposed.mean(0), torch.tensor([0.2, 0.7, 0.1]), atol=0.015, rtol=0)


def test_the_first_proposal_follows_the_mode_and_the_others_differ() -> None:
    distribution = TruncatedNormal(torch.tensor([[0.8]]), torch.tensor([[0.5]]))
    controller = planning(proposals=4).controller(Line(), Learned(distribution))
    plans = controller._proposed(
        controller.policy, Point(torch.zeros(2, 1)), lambda *sizes: torch.randn(2, *sizes, generator=seeded())
    )
    assert plans.shape == (2, 4, 2, 1)
    torch.testing.assert_close(plans[:, 0], torch.full((2, 2, 1), 0.8))
    assert not torch.isclose(plans[:, 1:], torch.tensor(0.8)).any()
