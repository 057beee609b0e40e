"""Memories that are forgotten, so that their age does not tell the order of rows."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from dreamset.behaviors.base import Experience
from dreamset.behaviors.reversibility.forgetting import forgetful_features
from dreamset.behaviors.reversibility.precedence import ActionIrreversibility, Precedence
from dreamset.behaviors.rewards import Irreversibility
from dreamset.behaviors.rewards.irreversibility import ORDER_ACCURACY, RECORDED
from dreamset.core.records import Rollout, SequenceBatch
from tests.behaviors.worlds import ONE
from tests.builders import seeded, tiny_batch, tiny_model


class Clock:
    """A world model that knows nothing but the age of its memory, in rows."""

    def observe(self, batch: SequenceBatch, generator: torch.Generator) -> Rollout[Any]:  # noqa: ARG002
        rows = torch.arange(batch.is_first.shape[1]).expand_as(batch.is_first)
        began = torch.where(batch.is_first, rows, 0).cummax(1).values
        age = (rows - began)[..., None] / 10
        return Rollout(age, age, age[..., :0])


def recorded(rows: int = 16) -> SequenceBatch:
    batch = tiny_batch(size=16, length=rows)
    return replace(batch, is_first=torch.zeros_like(batch.is_first))


def order_accuracy(forgetting: float) -> float:
    """The share of pairs whose order is told after a training on the clock's features."""
    torch.manual_seed(0)
    reward = Irreversibility(precedence=partial(Precedence, hidden=16, layers=1), forgetting=forgetting)
    reward.set_up(1, ONE)
    optimizer, generator = torch.optim.Adam(reward.parameters(), lr=1e-2), seeded()
    experience, shares = replace(clock_experience(), outcomes=None), []
    for _ in range(150):
        learned = reward.losses_on(experience, Clock(), generator)
        optimizer.zero_grad()
        learned.losses["precedence"].backward()
        optimizer.step()
        shares.append(learned.figures[ORDER_ACCURACY].item())
    return sum(shares[-30:]) / 30


def clock_experience() -> Experience[Any]:
    batch = recorded()
    features = Clock().observe(batch, seeded()).features
    return Experience(features, features, batch.action, batch.is_first, batch=batch)


def test_the_age_of_a_memory_tells_the_order_only_without_forgetting() -> None:
    assert order_accuracy(0.0) > 0.99
    assert order_accuracy(0.5) < 0.6


def test_two_calls_forget_before_other_rows_and_equal_generators_before_the_same() -> None:
    draw = partial(forgetful_features, Clock(), recorded(), share=0.3)
    generator = seeded()
    first, second = draw(generator), draw(generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, draw(seeded()))
    assert (first[:, 1:] == 0).float().mean().item() == pytest.approx(0.3, abs=0.08)


def test_a_forgotten_past_is_that_of_a_new_episode() -> None:
    model, batch = tiny_model(), tiny_batch()
    never, always = (forgetful_features(model, batch, seeded(), share=share) for share in (0.0, 1.0))
    generator = seeded()
    torch.rand(batch.is_first.shape, generator=generator)
    assert torch.equal(never, model.observe(batch, generator).features)
    generator = seeded()
    torch.rand(batch.is_first.shape, generator=generator)
    alone = replace(batch, is_first=torch.ones_like(batch.is_first))
    assert torch.equal(always, model.observe(alone, generator).features)


class TwoPasses:
    """A world model whose features say how often it has observed."""

    passes = 0

    def observe(self, batch: SequenceBatch, generator: torch.Generator) -> Rollout[Any]:  # noqa: ARG002
        self.passes += 1
        features = torch.full((*batch.is_first.shape, 1), float(self.passes))
        return Rollout(features, features, features[..., :0])


def test_the_rows_of_a_pair_and_of_a_transition_are_seen_in_two_passes() -> None:
    reward = Irreversibility(
        precedence=partial(Precedence, hidden=4, layers=1),
        action_irreversibility=partial(ActionIrreversibility, hidden=4, layers=1),
    )
    torch.manual_seed(0)
    reward.set_up(1, ONE)
    assert reward.precedence is not None
    assert reward.action_irreversibility is not None
    action = recorded().action[..., :1]
    learned = reward.losses_on(replace(clock_experience(), action=action), TwoPasses(), seeded())
    first, second = torch.tensor([1.0]), torch.tensor([2.0])
    psi = reward.precedence.irreversibility(first, second)
    assert learned.losses["precedence"].item() == pytest.approx(-psi.log().item(), rel=1e-5)
    assert learned.figures[RECORDED].item() == pytest.approx(psi.item(), rel=1e-5)
    phi = reward.action_irreversibility.irreversibility(first.expand(16, 15, 1), action[:, 1:])
    expected = -(psi * phi.log() + (1 - psi) * (1 - phi).log()).mean()
    assert learned.losses["action_irreversibility"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_features_without_their_rows_are_refused() -> None:
    reward = Irreversibility(precedence=partial(Precedence, hidden=2, layers=0))
    reward.set_up(1, ONE)
    with pytest.raises(ValueError, match="forgetting needs the recorded rows"):
        reward.losses_on(replace(clock_experience(), batch=None), Clock(), seeded())
