"""The recurrent world model: the units of actions and the losses that all objectives share."""

from dataclasses import replace

import numpy as np
import torch

from dreamset.core.records import Rollout, SequenceBatch
from dreamset.core.states import map_state
from dreamset.models.probes import recorded_trajectory
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import seeded, tiny_batch, tiny_model


def unit_actions(action: torch.Tensor) -> torch.Tensor:
    """[-2, 2] and [1, 5] to [-1, 1], computed by hand."""
    return torch.stack([action[..., 0] / 2, (action[..., 1] - 3) / 2], dim=-1)


def test_observe_rescales_actions_to_minus_one_and_one() -> None:
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


def test_filter_equals_observe_and_resets_the_state_at_first_rows() -> None:
    model, batch = tiny_model(), tiny_batch()
    state, noise = model.initial(3), model.noise((6, 3), seeded())
    first = torch.zeros(3, dtype=torch.bool)
    for t in range(6):
        observations = {name: value[:, t] for name, value in batch.observations.items()}
        wrong = map_state(lambda value: value + 7, state)
        reset = model.filter(wrong, batch.action[:, t], observations, ~first, noise[t])
        state = model.filter(state, batch.action[:, t], observations, first if t else ~first, noise[t])
        assert torch.equal(reset.features, state.features) == (t == 0)
    model.dynamics.latent.noise = lambda shape, generator: noise  # noqa: ARG005
    torch.testing.assert_close(state.features, model.observe(batch, seeded()).features[:, -1])


def test_copy_for_acting_filters_equally_with_fewer_weights() -> None:
    model, batch = tiny_model("world_model=dreamer_v2", "world_model/ensemble=priors"), tiny_batch()
    pruned, noise = model.for_acting(), model.noise((3,), seeded())
    observations = {name: value[:, 0] for name, value in batch.observations.items()}
    arguments = (batch.action[:, 0], observations, batch.is_first[:, 0], noise)
    expected = model.filter(model.initial(3), *arguments)
    assert torch.equal(pruned.filter(pruned.initial(3), *arguments).features, expected.features)
    assert {name.split(".")[0] for name in pruned.state_dict()} == {"encoder", "dynamics"}
    assert not any("prior_head" in name for name in pruned.state_dict())
    assert any("prior_head" in name for name in model.state_dict())


def test_warnings_report_posterior_collapse_only_when_kl_is_tiny() -> None:
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
    without_start = model.observe(batch.slice_time(4, 6), seeded())
    assert not torch.allclose(without_start.features, back.features)


def test_reward_loss_is_the_weighted_unit_normal_on_arrival() -> None:
    model, batch = tiny_model("weights.reward=7.0"), tiny_batch()
    rollout = model.observe(batch, seeded())
    losses = model.losses(rollout, batch)
    mean = rewards(model, rollout, batch).detach().numpy()
    expected = 0.5 * (batch.reward.numpy() - mean) ** 2 + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(losses["reward"].value.detach().numpy(), expected, rtol=1e-5)
    assert losses["reward"].weight == 7.0
    assert set(losses) == {"kl", "reward"}


def test_kl_loss_is_the_weighted_kl_of_posterior_and_prior() -> None:
    model, batch = tiny_model("weights.kl=0.25", "free_nats=0.0"), tiny_batch()
    rollout = model.observe(batch, seeded())
    loss = model.losses(rollout, batch)["kl"]
    expected = model.dynamics.latent.kl(rollout.details.posterior, rollout.details.prior)
    reverse = model.dynamics.latent.kl(rollout.details.prior, rollout.details.posterior)
    torch.testing.assert_close(loss.value, expected)
    assert not torch.allclose(loss.value, reverse)
    assert loss.weight == 0.25


def test_continuation_target_is_zero_only_in_terminal_rows() -> None:
    model, batch = tiny_model("world_model=dreamer_v1_continue"), tiny_batch()
    rollout = model.observe(batch, seeded())
    probability = continuations(model, rollout, batch).detach().double().numpy()
    assert ((probability > 0) & (probability < 1)).all()
    value = model.losses(rollout, batch)["continue"].value.detach().numpy()
    terminal = batch.is_terminal.numpy()
    assert terminal.any()
    assert (batch.is_last.numpy() & ~terminal).any()  # a time limit is no true end
    np.testing.assert_allclose(value, -np.where(terminal, np.log1p(-probability), np.log(probability)), rtol=1e-4)


def test_continuation_is_one_without_a_continue_head() -> None:
    model, batch = tiny_model(), tiny_batch()
    assert torch.equal(continuations(model, model.observe(batch, seeded()), batch), torch.ones(3, 6))
    assert not model.predicts_ends


def test_continue_discount_is_a_soft_target_that_continuation_divides_out() -> None:
    gamma = 0.9
    model = tiny_model("world_model=dreamer_v2", f"world_model.continue_discount={gamma}")
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    predicted = model.continue_head(rollout.features).mean.detach().double().numpy()
    target = np.where(batch.is_terminal.numpy(), 0.0, gamma)
    expected = -(target * np.log(predicted) + (1 - target) * np.log1p(-predicted))
    loss = model.losses(rollout, batch)["continue"]
    np.testing.assert_allclose(loss.value.detach().numpy(), expected, rtol=1e-4)
    probability = continuations(model, rollout, batch).detach().numpy()
    np.testing.assert_allclose(probability, predicted / gamma, rtol=1e-6)


def test_continuation_loss_has_its_own_weight() -> None:
    batch = tiny_batch()
    for name, weight in (("dreamer_v1_continue", 1.0), ("dreamer_v2_atari", 5.0)):
        model = tiny_model(f"world_model={name}")
        assert model.losses(model.observe(batch, seeded()), batch)["continue"].weight == weight


def test_privileged_values_never_reach_the_model() -> None:
    model, batch = tiny_model(), tiny_batch()
    without = replace(batch, privileged={})
    assert torch.equal(model.observe(without, seeded()).features, model.observe(batch, seeded()).features)
