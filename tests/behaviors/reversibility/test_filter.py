"""The filter of actions: what it allows, several episodes at once, exploration, and what it needs."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.actor_critic.actors import BoundedNormalActor, OneHotActor, TruncatedNormalActor
from dreamset.behaviors.base import ActorLearner, RewardFunction
from dreamset.behaviors.cloning import BehaviorCloning
from dreamset.behaviors.exploration import GaussianNoise, Sampled, UniformChoice, mode
from dreamset.behaviors.reversibility.filter import Filtered, FilteredChoices, FilteredSamples, Reversible
from dreamset.behaviors.reversibility.precedence import ActionIrreversibility, Precedence
from dreamset.behaviors.rewards import Irreversibility, PredictedReward
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import OneHotCategorical
from tests.behaviors.worlds import CHOICE
from tests.builders import seeded, tiny_batch, tiny_model
from tests.foreign.behaviors import PlannedActions

# one row for each of N = 3 episodes, one column for each of 3 actions
LOG_PROBS = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]).log()
PHI = torch.tensor([[0.9, 0.2, 0.1], [0.5, 0.9, 0.9], [0.98, 0.99, 0.75]])


class Table(ActionIrreversibility):
    """phi of discrete actions from a table; the first feature is the row."""

    def __init__(self, phi: Tensor) -> None:
        super().__init__(1, 3, hidden=1, layers=0)
        self.phi = phi

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        return (self.phi[features[..., 0].long()] * action).sum(-1).logit()


class Above(ActionIrreversibility):
    """phi is 0.9 where the first number of an action exceeds the feature, else 0.1 + 0.01 times its distance."""

    def __init__(self) -> None:
        super().__init__(1, 1, hidden=1, layers=0)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        over = action[..., 0] - features[..., 0]
        return torch.where(over > 0, 0.9 + 0.01 * over, 0.1).logit()


ROWS = torch.arange(3.0)[:, None]


def choices(threshold: float = 0.7) -> FilteredChoices:
    return FilteredChoices(
        lambda features: OneHotCategorical(LOG_PROBS[features[:, 0].long()]), Table(PHI), threshold=threshold
    )


def test_three_episodes_at_once_get_the_most_likely_allowed_action_of_their_own_state() -> None:
    """In the third episode no action is allowed: the least irreversible one is taken."""
    assert choices()(ROWS).mode.argmax(-1).tolist() == [1, 0, 2]
    assert [int(choices()(row[None]).mode.argmax(-1)) for row in ROWS] == [1, 0, 2]
    assert choices(0.985)(ROWS).mode.argmax(-1).tolist() == [0, 0, 0]
    assert choices(0.05)(ROWS).mode.argmax(-1).tolist() == [2, 0, 2]


def test_samples_have_the_probabilities_of_the_actor_among_allowed_actions() -> None:
    features, generator = ROWS[[0] * 4000], seeded()
    distribution = choices()(features)
    shares = distribution.sample(distribution.noise(generator)).mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.75, 0.25]), atol=0.03, rtol=0)


def bounded(features: Tensor) -> Any:
    actor = BoundedNormalActor(1, ActionSpec(1, False, (-1.0,), (1.0,)), hidden=4, layers=0)
    nn.init.zeros_(actor.layers[-1].weight)
    return actor(features)


def test_three_episodes_at_once_get_the_first_allowed_sample_and_the_mode_comes_first() -> None:
    """The mode 0 is allowed at 0.5; a sample is at -0.2; none is at -5, and the lowest one is taken."""
    features = torch.tensor([[0.5], [-0.2], [-5.0]])
    torch.manual_seed(0)
    actor = FilteredSamples(bounded, Above(), 1, threshold=0.7, candidates=32)
    action = actor(features).mode[:, 0]
    samples = bounded(features).sample(actor.draws[:, None].expand(-1, 3, -1)).clamp(-1, 1)[..., 0]  # [J - 1, N]
    first = next(value for value in samples[:, 1].tolist() if value <= -0.2)
    torch.testing.assert_close(action, torch.tensor([0.0, first, samples[:, 2].min().item()]))
    for n in range(3):
        torch.testing.assert_close(actor(features[n, None]).mode[0, 0], action[n])


def test_a_single_candidate_is_the_actor_itself() -> None:
    actor = FilteredSamples(bounded, Above(), 1, threshold=0.7, candidates=1)
    assert torch.equal(actor(torch.tensor([[-5.0]])).mode, torch.zeros(1, 1))


@dataclass(frozen=True)
class Given:
    """A behaviour with a given actor, and a reward with a given network."""

    network: ActionIrreversibility
    actor: Any

    def way(self, **settings: Any) -> Reversible:
        reward = Irreversibility(precedence=partial(Precedence, hidden=2, layers=0))
        reward.action_irreversibility = self.network
        return Reversible(reward=reward, **settings)

    def behavior(self, action: ActionSpec, features: int) -> ActorLearner:
        return BehaviorCloning(features, action, actor=lambda *_: self.actor)


@pytest.mark.parametrize("exploration", [mode, Sampled(), GaussianNoise(0.5)])
def test_no_exploration_passes_a_continuous_action_that_is_not_allowed(exploration: Any) -> None:
    model = tiny_model()
    action = model.spec.action

    class FirstPositive(ActionIrreversibility):
        def forward(self, features: Tensor, action: Tensor) -> Tensor:
            return torch.where(action[..., 0] > 0, 4.0, -4.0) + 0 * features[..., 0]

    torch.manual_seed(0)
    actor = TruncatedNormalActor(model.feature_size, action, hidden=4, layers=1, min_std=0.5)
    given = Given(FirstPositive(model.feature_size, 2, hidden=1, layers=0), actor)
    acting = given.way(candidates=64).of(given.behavior(action, model.feature_size))
    controller = acting.controller(model, exploration=exploration)
    batch, generator = tiny_batch(size=8), seeded()
    taken, memory = [], controller.initial(8)
    for t in range(6):
        rows = {name: value[:, t] for name, value in batch.observations.items()}
        chosen, memory = controller.act(rows, batch.is_first[:, t], memory, generator)
        taken.append(action.normalize(chosen))
    assert torch.stack(taken)[..., 0].max() <= 1e-6
    assert torch.stack(taken)[..., 1].max() > 0


@pytest.mark.parametrize("exploration", [mode, Sampled(), UniformChoice(1.0)])
def test_no_exploration_passes_a_discrete_action_that_is_not_allowed(exploration: Any) -> None:
    distribution, generator = choices()(ROWS[[0] * 200]), seeded()
    taken = Filtered(exploration)(distribution, generator)
    assert taken.sum(-1).eq(1).all()
    assert not taken[:, 0].any()


def test_an_imagined_filtered_policy_takes_its_allowed_actions() -> None:
    model = tiny_model().requires_grad_(False)
    torch.manual_seed(0)
    network = ActionIrreversibility(model.feature_size, 2, hidden=4, layers=1)
    actor = TruncatedNormalActor(model.feature_size, model.spec.action, hidden=4, layers=1)
    given = Given(network, actor)
    acting = given.way(threshold=0.5, candidates=4).of(given.behavior(model.spec.action, model.feature_size))
    imagined = acting.imagine(model, model.initial(3), horizon=4, generator=seeded())
    assert imagined is not None
    filtered = acting.controller(model).actor
    torch.testing.assert_close(imagined.action[2], filtered(imagined.features[2]).mode)


def unlearned() -> Irreversibility:
    reward = Irreversibility(precedence=partial(Precedence, hidden=2, layers=0))
    reward.set_up(4, CHOICE)
    return reward


@pytest.mark.parametrize("reward", [None, PredictedReward(), unlearned()])
def test_a_policy_without_the_network_is_told_how_to_learn_it(reward: RewardFunction | None) -> None:
    behavior = BehaviorCloning(4, CHOICE, actor=partial(OneHotActor, hidden=2, layers=0))
    with pytest.raises(UserError, match=r"action_irreversibility .* has none; learn the behaviour with reward=careful"):
        Reversible(reward=reward).of(behavior)


def test_a_behaviour_without_an_actor_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="PlannedActions has none; choose a behaviour with an actor"):
        Given(Table(PHI), None).way().of(PlannedActions(4, CHOICE))
    with pytest.raises(UserError, match=r"acting.threshold is 1; allowed: 0 to below 1"):
        Reversible(threshold=1)
    with pytest.raises(UserError, match=r"acting.candidates is 0; allowed: 1 or more"):
        Reversible(candidates=0)
