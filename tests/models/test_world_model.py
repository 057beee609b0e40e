"""The world model: units of actions, and the losses that all objectives share."""

from dataclasses import replace

import numpy as np
import torch

from dreamset.core.records import LatentState
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


def test_predict_takes_actions_in_the_units_of_the_environment() -> None:
    model, batch = tiny_model(), tiny_batch()
    start = LatentState(torch.randn(3, 16), torch.randn(3, 4))
    expected = model.dynamics.predict(start, unit_actions(batch.action), seeded())
    torch.testing.assert_close(model.predict(start, batch.action, seeded()).features, expected.features)


def test_observe_in_two_parts_equals_observe_at_once() -> None:
    model, batch = tiny_model(), tiny_batch()
    model.dynamics.latent.noise = lambda shape, generator: torch.zeros(*shape, 4)  # noqa: ARG005
    whole = model.observe(batch, seeded())
    front = model.observe(batch.slice_time(0, 4), seeded())
    middle = front.posterior.map(lambda value: value[:, -1])
    back = model.observe(batch.slice_time(4, 6), seeded(), middle)
    torch.testing.assert_close(torch.cat([front.features, back.features], dim=1), whole.features)
    forgetful = model.observe(batch.slice_time(4, 6), seeded())
    assert not torch.allclose(forgetful.features, back.features)


def test_reward_loss_is_the_unit_normal_on_arrival_under_its_weight() -> None:
    model, batch = tiny_model("weights.reward=7.0"), tiny_batch()
    rollout = model.observe(batch, seeded())
    losses = model.losses(rollout, batch)
    mean = model.reward(rollout.features).detach().numpy()
    expected = 0.5 * (batch.reward.numpy() - mean) ** 2 + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(losses["reward"].value.detach().numpy(), expected, rtol=1e-5)
    assert losses["reward"].weight == 7.0
    assert set(losses) == {"kl", "reward"}


def test_kl_loss_pulls_the_posterior_to_the_prior_under_its_weight() -> None:
    model, batch = tiny_model("weights.kl=0.25", "free_nats=0.0"), tiny_batch()
    rollout = model.observe(batch, seeded())
    loss = model.losses(rollout, batch)["kl"]
    expected = model.dynamics.latent.kl(rollout.posterior_parameters, rollout.prior_parameters)
    backwards = model.dynamics.latent.kl(rollout.prior_parameters, rollout.posterior_parameters)
    torch.testing.assert_close(loss.value, expected)
    assert not torch.allclose(loss.value, backwards)
    assert loss.weight == 0.25


def test_an_episode_goes_on_in_every_row_but_the_terminal_one() -> None:
    model, batch = tiny_model("world_model=dreamer_v1_continue"), tiny_batch()
    rollout = model.observe(batch, seeded())
    goes_on = model.continuation(rollout.features).detach().double().numpy()
    assert ((goes_on > 0) & (goes_on < 1)).all()
    value = model.losses(rollout, batch)["continue"].value.detach().numpy()
    terminal = batch.is_terminal.numpy()
    assert terminal.any()
    assert (batch.is_last.numpy() & ~terminal).any()  # a time limit: the world goes on
    np.testing.assert_allclose(value, -np.where(terminal, np.log1p(-goes_on), np.log(goes_on)), rtol=1e-4)


def test_without_a_continue_head_every_episode_goes_on() -> None:
    model, batch = tiny_model(), tiny_batch()
    features = model.observe(batch, seeded()).features
    assert torch.equal(model.continuation(features), torch.ones(3, 6))


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
    goes_on = model.continuation(rollout.features).detach().numpy()
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
