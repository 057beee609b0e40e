"""Acting row by row with memory."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from dreamset.behaviors.actor_critic.actors import TanhNormalActor
from dreamset.behaviors.controller import LatentPolicy
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import HIGH, LOW, seeded, tiny_batch, tiny_model

COUNT, ROWS = 3, 5


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> WorldModel:
    """Without noise, so that the number of draws per call makes no difference."""
    world = tiny_model()

    def none(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
        return torch.zeros(*shape, world.dynamics.latent.size)

    monkeypatch.setattr(world.dynamics.latent, "noise", none)
    return world


@pytest.fixture
def actor(model: WorldModel) -> TanhNormalActor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return TanhNormalActor(model.feature_size, model.spec.action, hidden=16, layers=1)


def rows(policy: LatentPolicy, firsts: torch.Tensor) -> torch.Tensor:
    """Actions [N, T, A] for the rows of the tiny batch."""
    observations = tiny_batch(COUNT, ROWS).observations
    actions = [
        policy.act({name: value[:, t] for name, value in observations.items()}, firsts[:, t])
        for t in range(firsts.shape[1])
    ]
    return torch.stack(actions, dim=1)


def start_only(count: int = COUNT) -> torch.Tensor:
    return (torch.arange(ROWS) == 0).expand(count, ROWS)


def test_acting_row_by_row_equals_observing_the_whole_sequence_at_once(
    model: WorldModel, actor: TanhNormalActor
) -> None:
    actions = rows(LatentPolicy(model, actor, generator=seeded()), start_only())
    led_here = torch.cat([torch.zeros(COUNT, 1, 2), actions[:, :-1]], dim=1)  # row t is led to by the action before
    whole = model.observe(replace(tiny_batch(COUNT, ROWS), action=led_here), seeded())
    expected = model.spec.action.denormalize(actor(whole.features).mode)
    torch.testing.assert_close(actions, expected.detach())
    wrong = model.observe(replace(tiny_batch(COUNT, ROWS), action=actions), seeded())
    assert not torch.allclose(actions, model.spec.action.denormalize(actor(wrong.features).mode))


def test_the_first_row_of_an_episode_drops_the_memory_of_that_episode_only(
    model: WorldModel, actor: TanhNormalActor
) -> None:
    firsts = start_only().clone()
    firsts[0, 3] = True
    restarted = rows(LatentPolicy(model, actor, generator=seeded()), firsts)
    plain = rows(LatentPolicy(model, actor, generator=seeded()), start_only())
    torch.testing.assert_close(restarted[1:], plain[1:])
    assert not torch.allclose(restarted[0, 3:], plain[0, 3:])
    fresh = LatentPolicy(model, actor, generator=seeded())
    observations = tiny_batch(COUNT, ROWS).observations
    late = fresh.act({name: value[:, 3] for name, value in observations.items()}, torch.ones(COUNT, dtype=torch.bool))
    torch.testing.assert_close(restarted[0, 3], late[0])


def test_actions_span_the_bounds_of_the_environment(model: WorldModel, actor: TanhNormalActor) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(actor.layers[-1].weight, std=100)  # saturates the tanh, both ways
    actions = rows(LatentPolicy(model, actor, generator=seeded()), start_only()).flatten(0, 1)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    assert ((actions >= low) & (actions <= high)).all()
    assert (actions.min(dim=0).values < low + 0.1).any()
    assert (actions.max(dim=0).values > high - 0.1).any()


def test_what_was_explored_is_what_led_to_the_next_row(model: WorldModel, actor: TanhNormalActor) -> None:
    taken = torch.tensor([0.5, -0.25]).expand(COUNT, 2)  # whatever the actor says
    policy = LatentPolicy(model, actor, generator=seeded(), exploration=lambda _distribution, _generator: taken)
    actions = rows(policy, start_only())
    torch.testing.assert_close(actions, model.spec.action.denormalize(taken)[:, None].expand(-1, ROWS, -1))
    led_here = torch.cat([torch.zeros(COUNT, 1, 2), actions[:, :-1]], dim=1)
    seen = model.observe(replace(tiny_batch(COUNT, ROWS), action=led_here), seeded())
    assert policy._memory is not None
    torch.testing.assert_close(policy._memory[1].features, seen.features[:, -1].detach())
