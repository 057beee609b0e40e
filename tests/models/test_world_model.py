"""The world model: units of actions, and the losses that all objectives share."""

from dataclasses import replace

import numpy as np
import torch

from dreamset.core.records import Rollout, SequenceBatch
from dreamset.core.states import map_state
from dreamset.models.probes import recorded_trajectory
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import seeded, tiny_batch, tiny_model


def unit_actions(action: torch.Tensor) -> torch.Tensor:
    """By hand: [-2, 2] and [1, 5] to [-1, 1]."""
    return torch.stack([action[..., 0] / 2, (action[..., 1] - 3) / 2], dim=-1)


def test_observe_gives_the_dynamics_actions_between_minus_one_and_one() -> None:
    model, batch = tiny_model(), tiny_batch()
    embedding = model.encoder(batch.observations)
    expected = model.dynamics.observe(embedding, unit_actions(batch.action), batch.is_first, seeded())
    torch.testing.assert_close(model.observe(batch, seeded()).features, expected.features)
    raw = model.dynamics.observe(embedding, batch.action, batch.is_first, seeded())
    assert not torch.allclose(raw.features, expected.features)


def rewards(model: WorldModel, rollout: Rollout, batch: SequenceBatch) -> torch.Tensor:
    """[B, T]."""
    return model.reward(recorded_trajectory(model, rollout, batch)).t()


def continuations(model: WorldModel, rollout: Rollout, batch: SequenceBatch) -> torch.Tensor:
    """[B, T]."""
    return model.continuation(recorded_trajectory(model, rollout, batch)).t()


def test_filter_takes_actions_in_the_units_of_the_environment_and_forgets_where_an_episode_begins() -> None:
    model, batch = tiny_model(), tiny_batch()
    state, noise = model.initial(3), model.noise((6, 3), seeded())
    first = torch.zeros(3, dtype=torch.bool)
    for t in range(6):
        seen = {name: value[:, t] for name, value in batch.observations.items()}
        wrong = map_state(lambda value: value + 7, state)
        forgotten = model.filter(wrong, batch.action[:, t], seen, ~first, noise[t])
        state = model.filter(state, batch.action[:, t], seen, first if t else ~first, noise[t])
        assert torch.equal(forgotten.features, state.features) == (t == 0)
    model.dynamics.latent.noise = lambda shape, generator: noise  # noqa: ARG005
    torch.testing.assert_close(state.features, model.observe(batch, seeded()).features[:, -1])


def test_a_copy_for_acting_filters_alike_with_fewer_weights() -> None:
    model, batch = tiny_model("world_model=dreamer_v2", "world_model/ensemble=priors"), tiny_batch()
    pruned, noise = model.for_acting(), model.noise((3,), seeded())
    seen = {name: value[:, 0] for name, value in batch.observations.items()}
    arguments = (batch.action[:, 0], seen, batch.is_first[:, 0], noise)
    expected = model.filter(model.initial(3), *arguments)
    assert torch.equal(pruned.filter(pruned.initial(3), *arguments).features, expected.features)
    assert {name.split(".")[0] for name in pruned.state_dict()} == {"encoder", "dynamics"}
    assert not any("prior_head" in name for name in pruned.state_dict())
    assert any("prior_head" in name for name in model.state_dict())


def test_a_collapsed_posterior_is_said_and_a_healthy_one_is_not() -> None:
    model = tiny_model()
    assert model.warnings({"kl": 0.5}) == []
    (line,) = model.warnings({"kl": 1e-4})
    assert "posterior collapse" in line
    assert "1.0e-04" in line


def test_observe_in_two_parts_equals_observe_at_once() -> None:
    model, batch = tiny_model(), tiny_batch()
    model.dynamics.latent.noise = lambda shape, generator: torch.zeros(*shape, 4)  # noqa: ARG005
    whole = model.observe(batch, seeded())
    front = model.observe(batch.slice_time(0, 4), seeded())
    middle = map_state(lambda value: value[:, -1], front.states)
    back = model.observe(batch.slice_time(4, 6), seeded(), middle)
    torch.testing.assert_close(torch.cat([front.features, back.features], dim=1), whole.features)
    forgetful = model.observe(batch.slice_time(4, 6), seeded())
    assert not torch.allclose(forgetful.features, back.features)


def test_reward_loss_is_the_unit_normal_on_arrival_under_its_weight() -> None:
    model, batch = tiny_model("weights.reward=7.0"), tiny_batch()
    rollout = model.observe(batch, seeded())
    losses = model.losses(rollout, batch)
    mean = rewards(model, rollout, batch).detach().numpy()
    expected = 0.5 * (batch.reward.numpy() - mean) ** 2 + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(losses["reward"].value.detach().numpy(), expected, rtol=1e-5)
    assert losses["reward"].weight == 7.0
    assert set(losses) == {"kl", "reward"}


def test_kl_loss_pulls_the_posterior_to_the_prior_under_its_weight() -> None:
    model, batch = tiny_model("weights.kl=0.25", "free_nats=0.0"), tiny_batch()
    rollout = model.observe(batch, seeded())
    loss = model.losses(rollout, batch)["kl"]
    expected = model.dynamics.latent.kl(rollout.details.posterior, rollout.details.prior)
    backwards = model.dynamics.latent.kl(rollout.details.prior, rollout.details.posterior)
    torch.testing.assert_close(loss.value, expected)
    assert not torch.allclose(loss.value, backwards)
    assert loss.weight == 0.25


def test_an_episode_goes_on_in_every_row_but_the_terminal_one() -> None:
    model, batch = tiny_model("world_model=dreamer_v1_continue"), tiny_batch()
    rollout = model.observe(batch, seeded())
    goes_on = continuations(model, rollout, batch).detach().double().numpy()
    assert ((goes_on > 0) & (goes_on < 1)).all()
    value = model.losses(rollout, batch)["continue"].value.detach().numpy()
    terminal = batch.is_terminal.numpy()
    assert terminal.any()
    assert (batch.is_last.numpy() & ~terminal).any()  # a time limit: the world goes on
    np.testing.assert_allclose(value, -np.where(terminal, np.log1p(-goes_on), np.log(goes_on)), rtol=1e-4)


def test_without_a_continue_head_every_episode_goes_on() -> None:
    model, batch = tiny_model(), tiny_batch()
    assert torch.equal(continuations(model, model.observe(batch, seeded()), batch), torch.ones(3, 6))
    assert not model.predicts_ends


def test_a_discount_that_is_folded_into_the_continuation_is_a_soft_target_and_taken_out_again() -> None:
    gamma = 0.9
    model = tiny_model("world_model=dreamer_v2", f"world_model.continue_discount={gamma}")
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    predicted = model.continue_head(rollout.features).mean.detach().double().numpy()
    target = np.where(batch.is_terminal.numpy(), 0.0, gamma)
    expected = -(target * np.log(predicted) + (1 - target) * np.log1p(-predicted))
    loss = model.losses(rollout, batch)["continue"]
    np.testing.assert_allclose(loss.value.detach().numpy(), expected, rtol=1e-4)
    goes_on = continuations(model, rollout, batch).detach().numpy()
    np.testing.assert_allclose(goes_on, predicted / gamma, rtol=1e-6)  # times gamma: exactly what the head predicts


def test_the_loss_of_the_continuation_has_a_weight_of_its_own() -> None:
    batch = tiny_batch()
    for name, weight in (("dreamer_v1_continue", 1.0), ("dreamer_v2_atari", 5.0)):
        model = tiny_model(f"world_model={name}")
        assert model.losses(model.observe(batch, seeded()), batch)["continue"].weight == weight


def test_privileged_values_never_reach_the_model() -> None:
    model, batch = tiny_model(), tiny_batch()
    blind = replace(batch, privileged={})
    assert torch.equal(model.observe(blind, seeded()).features, model.observe(batch, seeded()).features)
