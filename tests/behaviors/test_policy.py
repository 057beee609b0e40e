"""Controllers act row by row with memory."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from dreamset.behaviors.actor_critic.actors import TanhNormalActor
from dreamset.behaviors.controller import ActorController, ActorMemory
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import HIGH, LOW, seeded, tiny_batch, tiny_model

COUNT, ROWS = 3, 5


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> WorldModel:
    """A model without noise, so that results do not depend on how many numbers a call draws."""
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


def play(controller: ActorController, firsts: torch.Tensor) -> tuple[torch.Tensor, ActorMemory]:
    """Actions [N, T, A] for the rows of the tiny batch, and the memory after the last."""
    observations = tiny_batch(COUNT, ROWS).observations
    memory, actions, generator = controller.initial(COUNT), [], seeded()
    for t in range(firsts.shape[1]):
        row = {name: value[:, t] for name, value in observations.items()}
        action, memory = controller.act(row, firsts[:, t], memory, generator)
        actions.append(action)
    return torch.stack(actions, dim=1), memory


def rows(controller: ActorController, firsts: torch.Tensor) -> torch.Tensor:
    """Actions [N, T, A] for the rows of the tiny batch."""
    return play(controller, firsts)[0]


def start_only(count: int = COUNT) -> torch.Tensor:
    return (torch.arange(ROWS) == 0).expand(count, ROWS)


def test_acting_row_by_row_equals_observing_the_whole_sequence(model: WorldModel, actor: TanhNormalActor) -> None:
    actions = rows(ActorController(model, actor), start_only())
    shifted = torch.cat([torch.zeros(COUNT, 1, 2), actions[:, :-1]], dim=1)  # row t follows the previous row's action
    whole = model.observe(replace(tiny_batch(COUNT, ROWS), action=shifted), seeded())
    expected = model.spec.action.denormalize(actor(whole.features).mode)
    torch.testing.assert_close(actions, expected.detach())
    wrong = model.observe(replace(tiny_batch(COUNT, ROWS), action=actions), seeded())
    assert not torch.allclose(actions, model.spec.action.denormalize(actor(wrong.features).mode))


def test_first_row_resets_the_memory_of_its_episode_only(model: WorldModel, actor: TanhNormalActor) -> None:
    firsts = start_only().clone()
    firsts[0, 3] = True
    restarted = rows(ActorController(model, actor), firsts)
    plain = rows(ActorController(model, actor), start_only())
    torch.testing.assert_close(restarted[1:], plain[1:])
    assert not torch.allclose(restarted[0, 3:], plain[0, 3:])
    controller = ActorController(model, actor)
    observations = {name: value[:, 3] for name, value in tiny_batch(COUNT, ROWS).observations.items()}
    late, _ = controller.act(observations, torch.ones(COUNT, dtype=torch.bool), controller.initial(COUNT), seeded())
    torch.testing.assert_close(restarted[0, 3], late[0])


def test_actions_span_the_bounds_of_the_environment(model: WorldModel, actor: TanhNormalActor) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(actor.layers[-1].weight, std=100)  # saturates the tanh at both bounds
    actions = rows(ActorController(model, actor), start_only()).flatten(0, 1)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    assert ((actions >= low) & (actions <= high)).all()
    assert (actions.min(dim=0).values < low + 0.1).any()
    assert (actions.max(dim=0).values > high - 0.1).any()


def test_memory_holds_the_explored_action_for_the_next_row(model: WorldModel, actor: TanhNormalActor) -> None:
    constant = torch.tensor([0.5, -0.25]).expand(COUNT, 2)  # independent of the actor
    controller = ActorController(model, actor, exploration=lambda _distribution, _generator: constant)
    actions, memory = play(controller, start_only())
    torch.testing.assert_close(actions, model.spec.action.denormalize(constant)[:, None].expand(-1, ROWS, -1))
    shifted = torch.cat([torch.zeros(COUNT, 1, 2), actions[:, :-1]], dim=1)
    rollout = model.observe(replace(tiny_batch(COUNT, ROWS), action=shifted), seeded())
    torch.testing.assert_close(memory.state.features, rollout.features[:, -1].detach())


def test_step_with_given_noise_equals_act_without_exploration(model: WorldModel, actor: TanhNormalActor) -> None:
    controller = ActorController(model, actor)
    observations = {name: value[:, 0] for name, value in tiny_batch(COUNT, ROWS).observations.items()}
    first, memory = torch.ones(COUNT, dtype=torch.bool), controller.initial(COUNT)
    by_act, _ = controller.act(observations, first, memory, seeded())
    by_step, after = controller.step(observations, first, memory, controller.noise(COUNT, seeded()))
    assert torch.equal(by_act, by_step)
    assert torch.equal(after.action, by_step)
    assert controller.noise_distribution == "normal"
