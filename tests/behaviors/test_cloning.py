"""Behaviour cloning: the pairing of states and actions, and learning of the recorded policy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import BoundedNormal
from dreamset.behaviors.actor_critic.learner import ImaginationActorCritic
from dreamset.behaviors.base import Demonstrations, Experience
from dreamset.behaviors.cloning import BehaviorCloning, cloning_loss
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.heads import NormalHead
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from tests.behaviors.worlds import CHOICE, ONE, DelayLine, Line, one_hot_actor, truncated_normal_actor
from tests.builders import seeded, tiny_batch, tiny_model

UNBOUNDED = ActionSpec(1, discrete=False, low=(-float("inf"),), high=(float("inf"),))


def counted(is_first: list[list[bool]]) -> Experience:
    """Row t of sequence b has the feature 10 b + t and the action -(10 b + t), which led to it."""
    first = torch.tensor(is_first)
    rows = 10.0 * torch.arange(first.shape[0])[:, None] + torch.arange(first.shape[1])
    return Experience(Line(rows[..., None], rows[..., None]), rows[..., None], -rows[..., None], first)


def test_demonstrations_pair_each_action_with_its_previous_state() -> None:
    experience = counted([[True, False, False, False], [False, False, True, False]])
    demonstrations = experience.demonstrations
    pairs = [
        (float(features), float(action))
        for features, action, known in zip(
            demonstrations.features.flatten(),
            demonstrations.action.flatten(),
            demonstrations.known.flatten(),
            strict=True,
        )
        if known
    ]
    assert pairs == [(0, -1), (1, -2), (2, -3), (10, -11), (12, -13)]  # no pair crosses the border from 11 to 12


@pytest.mark.parametrize("mark", ["acted", "demonstration"])
def test_only_actions_of_acted_demonstrations_are_cloned(mark: str) -> None:
    batch = replace(tiny_batch(size=2, length=4), **{mark: torch.tensor([[True] * 4, [True, True, False, False]])})
    known = Experience.of(tiny_model(), batch, seeded()).demonstrations.known
    assert known.tolist() == [[True, True, True], [True, False, False]]


def test_every_state_of_the_batch_starts_an_imagination() -> None:
    experience = counted([[True, False], [False, True]])
    assert experience.starts.x.flatten().tolist() == [0, 1, 10, 11]


def test_experience_holds_posterior_states_and_rescaled_actions() -> None:
    model, batch = tiny_model().requires_grad_(False), tiny_batch()
    experience = Experience.of(model, batch, seeded())
    low, high = torch.tensor(model.spec.action.low), torch.tensor(model.spec.action.high)
    torch.testing.assert_close(experience.action, 2 * (batch.action - low) / (high - low) - 1)
    torch.testing.assert_close(experience.features, model.observe(batch, seeded()).features)
    assert torch.equal(experience.states.features, experience.features)


class Echo(nn.Module):
    """N(feature, 1)."""

    def forward(self, features: Tensor) -> BoundedNormal:
        return BoundedNormal(features, torch.ones_like(features))


def test_cloning_loss_is_the_mean_negative_log_likelihood_of_known_pairs() -> None:
    random = np.random.default_rng(0)
    features, action = random.normal(size=(2, 3, 4, 1))
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]], bool)
    negative_log_prob = 0.5 * (action - features)[..., 0] ** 2 + 0.5 * np.log(2 * np.pi)
    demonstrations = Demonstrations(*(torch.from_numpy(array) for array in (features, action, mask)))
    assert float(cloning_loss(Echo(), demonstrations)) == pytest.approx(negative_log_prob[mask].mean())
    none_known = replace(demonstrations, known=torch.zeros(3, 4, dtype=torch.bool))
    assert float(cloning_loss(Echo(), none_known)) == 0


def follow(features: Tensor, *, discrete: bool) -> Tensor:
    """The behaviour policy: a scaled tanh, or the action with the largest of three scores."""
    if discrete:
        scores = torch.cat([features, 0.5 - features, torch.zeros_like(features)], dim=-1)
        return nn.functional.one_hot(scores.argmax(-1), 3).float()
    return 0.8 * torch.tanh(2 * features)


@pytest.mark.parametrize("discrete", [False, True])
def test_cloning_learns_the_behaviour_policy_from_recorded_actions(discrete: bool) -> None:
    torch.manual_seed(0)
    generator = seeded()
    spec, actor = (CHOICE, one_hot_actor()) if discrete else (ONE, truncated_normal_actor())
    learner = BehaviorCloning(1, spec, actor=actor)
    optimizer = torch.optim.Adam(learner.parameters(), lr=2e-2)
    for _ in range(300):
        features = torch.rand(8, 6, 1, generator=generator) * 2 - 1
        action = torch.zeros(8, 6, spec.size)
        action[:, 1:] = follow(features[:, :-1], discrete=discrete)
        is_first = torch.rand(8, 6, generator=generator) < 0.2
        action[is_first] = 0  # no action led to the first row of an episode
        experience = Experience(Line(features, features), features, action, is_first)
        result = learner.losses_on(experience, None, None, generator)
        optimizer.zero_grad()
        result.losses["actor"].backward()
        optimizer.step()
    grid = torch.linspace(-0.9, 0.9, 19)[:, None]
    difference = (learner.actor(grid).mode - follow(grid, discrete=discrete)).abs().sum(-1).detach()
    assert set(result.figures) == {learner.headline}
    if discrete:
        assert (difference > 0).sum() <= 2  # only grid points next to the two decision boundaries may differ
    else:
        assert difference.max() < 0.12


def test_configured_clone_acts_with_the_mean_not_with_a_bound() -> None:
    torch.manual_seed(0)
    generator = seeded()
    learner: BehaviorCloning = build_part(compose(["behavior=cloning", "network.hidden=32"])["behavior"], 1, ONE)
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    for _ in range(300):
        side = (torch.rand(64, 2, 1, generator=generator) < 0.5).float() * 2 - 1
        guided = torch.rand(64, 1, 1, generator=generator) < 0.3
        action = torch.zeros(64, 2, 1)  # uniform, but with probability 0.3 equal to the feature of the state
        action[:, 1:] = torch.where(guided, side[:, :1], torch.rand(64, 1, 1, generator=generator) * 2 - 1)
        is_first = torch.tensor([True, False]).expand(64, 2)
        experience = Experience(Line(side, side), side, action, is_first)
        optimizer.zero_grad()
        learner.losses_on(experience, None, None, generator).losses["actor"].backward()
        optimizer.step()
    modes = learner.actor(torch.tensor([[-1.0], [1.0]])).mode
    torch.testing.assert_close(modes.detach(), torch.tensor([[-0.3], [0.3]]), atol=0.1, rtol=0)


def regularised(weight: float) -> ImaginationActorCritic:
    torch.manual_seed(0)
    return ImaginationActorCritic(
        2,
        ONE,
        actor=truncated_normal_actor(),
        critic=lambda features: NormalHead(features, hidden=8, layers=1),
        horizon=3,
        discount=0.9,
        lambda_=0.95,
        cloning_weight=weight,
    )


def test_cloning_weight_adds_the_weighted_cloning_loss_to_the_actor_only() -> None:
    states = Line(torch.rand(4, 5, 1, generator=seeded(1)), torch.rand(4, 5, 1, generator=seeded(2)))
    experience = Experience(
        states, states.features, torch.rand(4, 5, 1, generator=seeded(3)) * 2 - 1, torch.zeros(4, 5).bool()
    )

    def losses_with(weight: float) -> tuple[ImaginationActorCritic, dict[str, float]]:
        learner = regularised(weight)
        result = learner.losses_on(experience, DelayLine(), lambda t, _: {"reward": t.features[..., 1]}, seeded())
        assert ("cloning/log_prob" in result.figures) is (weight > 0)
        return learner, {name: float(loss.detach()) for name, loss in result.losses.items()}

    learner, plain = losses_with(0.0)
    _, cloning = losses_with(2.5)
    expected = plain["actor"] + 2.5 * float(cloning_loss(learner.actor, experience.demonstrations).detach())
    assert cloning["actor"] == pytest.approx(expected, rel=1e-5)
    assert cloning["actor"] != pytest.approx(plain["actor"], rel=1e-2)
    assert cloning["critic"] == plain["critic"]


def test_cloning_refuses_actions_without_bounds() -> None:
    with pytest.raises(UserError, match="no bounds"):
        BehaviorCloning(2, UNBOUNDED, actor=truncated_normal_actor())
    with pytest.raises(UserError, match="no bounds"):
        ImaginationActorCritic(
            2,
            UNBOUNDED,
            actor=truncated_normal_actor(),
            critic=lambda features: NormalHead(features, hidden=8, layers=1),
            horizon=3,
            discount=0.9,
            lambda_=0.95,
            cloning_weight=0.1,
        )
