"""Soft actor-critic on recorded rows: equations, what gets a gradient, ends, and problems with a known solution."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.actor_critic.actors import BoundedNormalActor, OneHotActor
from dreamset.behaviors.base import Experience, Outcomes, RewardFunction
from dreamset.behaviors.latent_sac import LatentSAC
from dreamset.behaviors.latent_sac.critics import critics_for
from dreamset.behaviors.latent_sac.temperature import Temperature
from dreamset.behaviors.latent_sac.transitions import Transitions
from dreamset.behaviors.rewards import PenalizedReward, PredictedReward, Sum
from dreamset.behaviors.rewards.penalty_weights import FixedWeight
from dreamset.behaviors.rewards.spreads import MeanDisagreement
from dreamset.core.capabilities import Proposing, RewardModel, Uncertain, Valued
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import TanhNormal
from dreamset.models.layers import ELU
from dreamset.models.told.policy import SquashedGaussianPolicy
from dreamset.pipeline.config.targets import mistakes
from tests.behaviors.worlds import CHOICE, ONE, Line
from tests.builders import seeded, tiny_config, without_zeros

REWARD = PredictedReward()
TWO = ActionSpec(2, discrete=True, low=(0.0, 0.0), high=(1.0, 1.0))


def policy_of(features: int, action: ActionSpec) -> nn.Module:
    kind = OneHotActor if action.discrete else SquashedGaussianPolicy
    return kind(features, action, hidden=16, layers=1, style=ELU)


def learner(features: int, action: ActionSpec, *, alpha: float = 0.1, **settings: Any) -> LatentSAC:
    torch.manual_seed(0)
    given = {"discount": 0.9, "tau": 0.5, "actor": policy_of} | settings
    return LatentSAC(
        features,
        action,
        critic=lambda size, spec: critics_for(size, spec, hidden=32, layers=1, style=ELU),
        temperature=lambda spec: Temperature(spec, initial=alpha),
        **given,
    )


def rows(features: Tensor, action: Tensor, reward: Tensor, is_first: Tensor, is_terminal: Tensor) -> Experience[Line]:
    following = torch.zeros_like(is_first)
    following[:, :-1] = ~is_first[:, 1:]
    outcomes = Outcomes(reward, ~is_terminal, following | is_terminal)
    return Experience(Line(features, features), features, action, is_first, outcomes)


IS_FIRST = torch.tensor([[True, False, False, True, False], [False, False, True, False, False]])
TERMINAL = torch.tensor([[False, False, True, False, False], [False, False, False, False, True]])
TRANSITIONS = [(0, 0), (0, 1), (0, 3), (1, 0), (1, 2), (1, 3)]  # none from the end of an episode to the next one
ENDS = [(0, 1), (1, 3)]  # those that arrive at a true end; (1, 0) arrives at a time limit, (0, 3) at a window's end


def crossing(action: ActionSpec) -> Experience[Line]:
    """An episode ends in each window: at a true end in the first, at a time limit in the second."""
    generator = seeded(7)
    features = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    recorded = torch.rand(2, 5, action.size, generator=generator, dtype=torch.float64) * 2 - 1
    if action.discrete:
        recorded = nn.functional.one_hot(recorded.argmax(-1), action.size).double()
    reward = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    return rows(features, recorded, reward, IS_FIRST, TERMINAL)


def doubled(action: ActionSpec, **settings: Any) -> LatentSAC:
    """In float64, with weights that differ between all networks."""
    sac = learner(3, action, **settings).double()
    torch.manual_seed(1)
    without_zeros(sac.slow_critic)
    without_zeros(sac.critic)
    return sac


def test_transitions_stay_in_their_episode_and_end_only_at_true_ends() -> None:
    experience = crossing(ONE)
    moves = Transitions.of(experience, {"reward": experience.outcomes.reward, "penalty": torch.ones(2, 5)})
    known = [(b, t) for b in range(2) for t in range(4) if moves.known[b, t]]
    assert known == TRANSITIONS
    assert [(b, t) for b, t in known if not moves.goes_on[b, t]] == ENDS
    assert torch.equal(moves.action, experience.action[:, 1:])  # the action of row t + 1 was taken in row t
    torch.testing.assert_close(moves.reward, experience.outcomes.reward[:, 1:] + 1)
    assert torch.equal(moves.states, experience.features[:, :-1])
    assert moves.mean(torch.arange(8.0).reshape(2, 4)).item() == pytest.approx((0 + 1 + 3 + 4 + 6 + 7) / 6)


@pytest.mark.parametrize("action", [ONE, CHOICE])
def test_losses_equal_their_equations(action: ActionSpec) -> None:
    """One-step targets; with one sample per state for continuous actions, all actions for discrete ones."""
    sac, experience = doubled(action, alpha=0.3), crossing(action)
    result = sac.losses_on(experience, None, REWARD, seeded(9))
    features, reward = experience.features, experience.outcomes.reward.numpy()
    policy = sac.actor(features)
    if action.discrete:
        weights = policy.probs.detach().numpy()
        chosen, log_prob = torch.eye(3).double().expand(2, 5, 3, 3), np.log(weights)
    else:
        sample = policy.sample(policy.noise(seeded(9))).detach()
        chosen, log_prob = sample[..., None, :], policy.log_prob(sample).detach().numpy()[..., None]
        weights = np.ones((2, 5, 1))
    live, slow = (q(features, chosen).detach().numpy().min(0) for q in (sac.critic, sac.slow_critic))
    entropy = -(weights * log_prob).sum(-1)
    value = (weights * slow).sum(-1) + 0.3 * entropy
    taken = sac.critic(features[:, :-1], experience.action[:, 1:, None]).detach().numpy()[..., 0]  # [K, B, T - 1]
    squares, absolute = [], []
    for b, t in TRANSITIONS:
        target = reward[b, t + 1] + (0.0 if (b, t) in ENDS else 0.9) * value[b, t + 1]
        squares.append(0.5 * ((taken[:, b, t] - target) ** 2).sum())
        absolute.append(np.abs(taken[:, b, t] - target).mean())
    assert result.losses["critic"].item() == pytest.approx(np.mean(squares), rel=1e-6)
    assert result.losses["actor"].item() == pytest.approx(-((weights * live).sum(-1) + 0.3 * entropy).mean(), rel=1e-6)
    target_entropy = 0.5 * np.log(3) if action.discrete else -1.0
    assert result.losses["temperature"].item() == pytest.approx(np.log(0.3) * (entropy.mean() - target_entropy))
    assert result.figures["replay/td_error"].item() == pytest.approx(np.mean(absolute), rel=1e-6)
    assert result.figures["replay/q_data"].item() == pytest.approx(
        np.mean([taken[:, b, t].mean() for b, t in TRANSITIONS])
    )
    assert result.figures["replay/q_policy"].item() == pytest.approx((weights * live).sum(-1).mean())
    assert result.figures["replay/reward"].item() == pytest.approx(np.mean([reward[b, t + 1] for b, t in TRANSITIONS]))


@pytest.mark.parametrize("action", [ONE, CHOICE])
def test_retrace_uses_the_clone_and_is_the_one_step_target_for_lambda_zero(action: ActionSpec) -> None:
    experience = crossing(action)

    def critic_loss(**settings: Any) -> tuple[float, Mapping[str, Tensor]]:
        result = doubled(action, **settings).losses_on(experience, None, REWARD, seeded(9))
        return result.losses["critic"].item(), result.figures

    plain, _ = critic_loss()
    zero, figures = critic_loss(lambda_=0.0, behavior_policy=policy_of)
    several, traced = critic_loss(lambda_=0.9, behavior_policy=policy_of)
    assert zero == plain
    assert several != pytest.approx(plain, rel=1e-3)
    assert figures["replay/trace"] == 0
    assert 0 < traced["replay/trace"] < 0.9


def test_each_loss_trains_its_own_network_and_none_the_features() -> None:
    sac, experience = doubled(ONE, lambda_=0.9, behavior_policy=policy_of, conservative_weight=0.5), crossing(ONE)
    features = experience.features.clone().requires_grad_()
    networks = {**sac.networks(), "slow_critic": sac.slow_critic.copy.requires_grad_(True)}
    losses = sac.losses_on(replace(experience, features=features), None, REWARD, seeded()).losses
    reached: dict[str, set[str]] = {name: set() for name in losses}
    for name, loss in losses.items():
        for network, module in networks.items():
            inputs = list(module.parameters())
            gradients = torch.autograd.grad(loss, [features, *inputs], retain_graph=True, allow_unused=True)
            assert gradients[0] is None
            reached[name] |= {network} if any(gradient is not None for gradient in gradients) else set()
    assert reached == {name: {name} for name in ("actor", "critic", "temperature", "behavior_policy")}


@pytest.mark.parametrize("action", [ONE, CHOICE])
def test_conservative_weight_adds_the_gap_to_the_critics_loss_only(action: ActionSpec) -> None:
    experience = crossing(action)
    plain = doubled(action).losses_on(experience, None, REWARD, seeded(9)).losses
    sac = doubled(action, conservative_weight=2.0, conservative_samples=6)
    result = sac.losses_on(experience, None, REWARD, seeded(9))
    generator = seeded(9)
    sac.kind.choices(sac.actor(experience.features), generator)  # the draws before
    states = experience.features[:, :-1]
    proposals = sac.kind.proposals(sac.actor(states), 6, generator)
    everywhere = proposals.log_sum_exp(sac.critic(states, proposals.action))
    gaps = (everywhere - sac.critic(states, experience.action[:, 1:, None])[..., 0]).detach().numpy()
    expected = np.mean([gaps[:, b, t].sum() for b, t in TRANSITIONS])
    assert result.losses["critic"].item() == pytest.approx(plain["critic"].item() + 2 * expected, rel=1e-6)
    assert result.figures["replay/conservative_gap"].item() == pytest.approx(expected / 2, rel=1e-6)
    assert result.losses["actor"].item() == plain["actor"].item()


def test_slow_critics_move_by_tau_after_an_update() -> None:
    sac = doubled(CHOICE, tau=0.25)
    before = {name: value.clone() for name, value in sac.slow_critic.copy.named_parameters()}
    sac.after_update()
    for name, value in sac.critic.named_parameters():
        torch.testing.assert_close(sac.slow_critic.copy.get_parameter(name), 0.75 * before[name] + 0.25 * value)


def train(
    sac: LatentSAC, experience: Experience[Line], updates: int, *, rate: float, held: tuple[str, ...] = ()
) -> None:
    optimizers = {name: torch.optim.Adam(net.parameters(), lr=rate) for name, net in sac.networks().items()}
    generator = seeded()
    for _ in range(updates):
        losses = sac.losses_on(experience, None, REWARD, generator).losses
        for name in optimizers.keys() - set(held):
            optimizers[name].zero_grad()
            losses[name].backward(inputs=list(sac.networks()[name].parameters()), retain_graph=True)
        for name in optimizers.keys() - set(held):
            optimizers[name].step()
        sac.after_update()


@pytest.mark.parametrize("settings", [{}, {"lambda_": 0.8, "behavior_policy": policy_of}])
def test_two_step_chain_has_its_known_values(settings: dict[str, Any]) -> None:
    """Action 0 ends with a reward of 0.5; action 1 leads to state 1, where the actions end with -1 and 2."""
    episodes = [([0], [0], [0.5]), ([0, 1], [1, 1], [0.0, 2.0]), ([0, 1], [1, 0], [0.0, -1.0])]
    features, action = torch.zeros(3, 3, 2), torch.zeros(3, 3, 2)
    reward, first, terminal = torch.zeros(3, 3), torch.zeros(3, 3).bool(), torch.zeros(3, 3).bool()
    first[:, 0] = True
    for b, (states, taken, earned) in enumerate(episodes):
        for t, (state, choice, gain) in enumerate(zip(states, taken, earned, strict=True)):
            features[b, t, state] = 1
            action[b, t + 1, choice] = 1
            reward[b, t + 1] = gain
        terminal[b, len(states)] = True
    first[0, 2] = True  # the first episode is over; another one begins in row 2
    sac = learner(2, TWO, alpha=1e-4, **settings)
    train(sac, rows(features, action, reward, first, terminal), 250, rate=2e-2, held=("temperature",))
    states, actions = torch.eye(2), torch.eye(2).expand(2, 2, 2)
    values = sac.critic(states, actions).mean(0).detach()
    torch.testing.assert_close(values, torch.tensor([[0.5, 0.9 * 2.0], [-1.0, 2.0]]), atol=0.1, rtol=0)
    assert sac.actor(states).mode.argmax(-1).tolist() == [1, 1]


def test_continuous_bandit_finds_the_best_action_and_the_target_entropy() -> None:
    """One action, reward -4 (a - 0.4)^2, then a true end; the temperature holds an entropy of -1 nat."""
    action = torch.rand(64, 2, 1, generator=seeded(1)) * 2 - 1
    reward = -4 * (action[..., 0] - 0.4).square()
    first = torch.tensor([True, False]).expand(64, 2)
    features = torch.ones(64, 2, 1)
    sac = learner(1, ONE, alpha=1.0)
    train(sac, rows(features, action, reward, first, ~first), 350, rate=2e-2)
    policy: TanhNormal = sac.actor(torch.ones(1, 1))
    assert policy.mode.item() == pytest.approx(0.4, abs=0.12)
    assert policy.entropy().item() == pytest.approx(-1.0, abs=0.25)
    assert sac.temperature().item() < 0.9


def test_cloning_weight_adds_the_cloning_loss_of_interior_actions() -> None:
    experience = crossing(ONE)
    experience = replace(experience, action=experience.action.sign())  # all at the bounds
    plain = doubled(ONE).losses_on(experience, None, REWARD, seeded(9))
    sac = doubled(ONE, cloning_weight=0.5)
    result = sac.losses_on(experience, None, REWARD, seeded(9))
    log_prob = sac.actor(experience.features[:, :-1]).log_prob(0.999 * experience.action[:, 1:]).detach().numpy()
    expected = np.mean([log_prob[b, t] for b, t in TRANSITIONS])
    assert result.figures["cloning/log_prob"].item() == pytest.approx(expected, rel=1e-6)
    assert result.losses["actor"].item() == pytest.approx(plain.losses["actor"].item() - 0.5 * expected, rel=1e-6)


class Feature(RewardFunction):
    """Minus the first feature, a term called ``penalty``."""

    def forward(self, trajectory: ImaginedTrajectory[Any], model: Any) -> Mapping[str, Tensor]:  # noqa: ARG002
        return {"penalty": -trajectory.features[..., 0]}


def test_terms_of_the_reward_are_those_of_the_recorded_rows() -> None:
    experience = crossing(ONE)
    both = Sum(rewards={"task": PredictedReward(), "feature": Feature()}, weights={"task": 3.0, "feature": 0.5})
    terms = both.recorded(experience, None)
    torch.testing.assert_close(terms["reward"], 3 * experience.outcomes.reward)
    torch.testing.assert_close(terms["penalty"], -0.5 * experience.features[..., 0])
    figures = doubled(ONE).losses_on(experience, None, both, seeded()).figures
    expected = np.mean([terms["penalty"][b, t + 1] for b, t in TRANSITIONS])
    assert figures["replay/penalty"].item() == pytest.approx(expected)


def test_only_terms_beside_the_recorded_reward_need_more_than_features() -> None:
    sac = learner(3, ONE)
    pessimistic = PenalizedReward(spread=MeanDisagreement(), weight=FixedWeight(1.0))
    assert len(sac.needed(PredictedReward())) == 1
    assert {RewardModel, Uncertain} <= set(sac.needed(pessimistic))
    assert {RewardModel, Uncertain} <= set(sac.needed(Sum(rewards={"a": pessimistic})))
    assert len(sac.needed(Sum(rewards={"a": PredictedReward()}))) == 1


@pytest.mark.parametrize("action", [ONE, CHOICE])
def test_value_of_a_last_state_adds_the_reward_on_arrival_to_that_of_the_mode(action: ActionSpec) -> None:
    sac = doubled(action)
    features = torch.randn(3, 4, 3, dtype=torch.float64, generator=seeded())
    trajectory = ImaginedTrajectory([], features, torch.zeros(2, 4, action.size))
    reward = torch.arange(4.0).double()
    best = sac.actor(features[-1]).mode
    expected = reward + 0.9 * torch.stack([sac.critic(features[-1], best[:, None])[k, :, 0] for k in range(2)])
    torch.testing.assert_close(sac.values(trajectory, reward), expected)
    assert isinstance(sac, Valued)
    assert isinstance(sac, Proposing)


def test_settings_that_cannot_work_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"behavior\.lambda_ is 0\.9, but behavior\.behavior_policy is null"):
        learner(3, ONE, lambda_=0.9)
    with pytest.raises(UserError, match=r"behavior\.actor has the distribution BoundedNormal"):
        learner(3, ONE, actor=lambda size, spec: BoundedNormalActor(size, spec, hidden=4, layers=1))
    with pytest.raises(UserError, match=r"behavior\.critic\.layers is 0; allowed: 1 or more"):
        critics_for(3, ONE, hidden=4, layers=0)
    short = crossing(ONE)
    one_row = rows(
        short.features[:, :1], short.action[:, :1], short.outcomes.reward[:, :1], IS_FIRST[:, :1], TERMINAL[:, :1]
    )
    with pytest.raises(UserError, match=r"behavior_training\.batch\.length is 1"):
        learner(3, ONE).losses_on(one_row, None, REWARD, seeded())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tau", 0),
        ("tau", 1.5),
        ("lambda_", 1.1),
        ("lambda_", -0.1),
        ("conservative_weight", -1),
        ("cloning_weight", -1),
        ("conservative_samples", 0),
        ("critic.members", 0),
        ("temperature.initial", 0),
        ("temperature.entropy_share", 1.5),
    ],
)
def test_numbers_out_of_range_are_refused_by_key(key: str, value: float) -> None:
    behavior = deepcopy(tiny_config("behavior=latent_sac_retrace")["behavior"])
    assert not list(mistakes(behavior, "behavior"))
    *parents, last = key.split(".")
    node = reduce(lambda inner, name: inner[name], parents, behavior)
    node[last] = value
    (found,) = mistakes(behavior, "behavior")
    assert found.key == f"behavior.{key}"
    assert found.finding.startswith(f"is {value}; allowed: ")
