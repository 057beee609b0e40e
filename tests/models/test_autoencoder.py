"""The autoencoder as a world model: its loss against NumPy, its state, and what it learns."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dreamset.core.capabilities import Dynamics, Prunable, Representation, RewardModel, Trainable, uses_unacted
from dreamset.core.records import total_loss
from dreamset.models.autoencoder import Autoencoder, Posterior, details
from dreamset.models.decoders import Decoder
from dreamset.models.encoders import Encoder
from dreamset.objectives.reward_only import RewardOnly
from tests.builders import seeded, tiny_batch, tiny_spec

SIZES = {"depth": 4, "hidden": 16, "layers": 1}


def autoencoder(*, size: int = 5, kl_weight: float = 1e-5) -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Autoencoder(
            tiny_spec(),
            encoder=partial(Encoder, **SIZES),
            decoder=partial(Decoder, **SIZES),
            size=size,
            kl_weight=kl_weight,
        )


def test_it_is_a_trainable_representation_without_dynamics_and_rewards() -> None:
    model = autoencoder()
    assert all(isinstance(model, capability) for capability in (Representation, Trainable, Prunable))
    assert not isinstance(model, Dynamics)
    assert not isinstance(model, RewardModel)


def test_kl_is_that_of_a_normal_from_the_standard_normal() -> None:
    random = np.random.default_rng(0)
    mean, log_std = random.normal(size=(2, 3, 4)), random.normal(size=(2, 3, 4))
    kl = Posterior(torch.from_numpy(mean), torch.from_numpy(log_std), torch.zeros(0)).kl()
    np.testing.assert_allclose(kl, (0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std).sum(-1))


def test_losses_are_mean_squared_errors_of_decoded_samples_and_the_weighted_kl() -> None:
    model, batch = autoencoder(kl_weight=0.5), tiny_batch()
    rollout = model.observe(batch, seeded())
    losses = {name: loss.value.detach().numpy() for name, loss in model.losses(rollout, batch).items()}
    decoded = model.decoder(details(rollout).sample)
    pixels = batch.observations["image"].numpy() / 255 - 0.5
    image = decoded["image"].mean.detach().movedim(2, -1).numpy()
    np.testing.assert_allclose(losses["reconstruction.image"], ((image - pixels) ** 2).mean((2, 3, 4)), rtol=1e-4)
    statistics = tiny_spec().statistics["state"]
    vector = (batch.observations["state"].numpy() - statistics.mean) / np.array(statistics.std)
    state = decoded["state"].mean.detach().numpy()
    np.testing.assert_allclose(losses["reconstruction.state"], ((state - vector) ** 2).mean(-1), rtol=1e-4)
    assert {name: loss.weight for name, loss in model.losses(rollout, batch).items()}["kl"] == 0.5
    sample = (details(rollout).sample - rollout.features) / details(rollout).log_std.exp()
    expected = torch.randn(sample.shape, generator=seeded())
    torch.testing.assert_close(sample, expected, atol=1e-4, rtol=1e-4)


def test_filter_and_features_are_the_mean_whatever_came_before() -> None:
    model, batch = autoencoder(), tiny_batch()
    row = {name: value[:, 3] for name, value in batch.observations.items()}
    state = model.filter(model.initial(3), batch.action[:, 3], row, batch.is_first[:, 3], torch.zeros(3, 0))
    expected = model.observe(batch, seeded(7)).features[:, 3]
    torch.testing.assert_close(model.features(state), expected)
    assert expected.shape == (3, model.feature_size)


def test_every_part_learns_and_the_error_falls() -> None:
    model, batch = autoencoder(), tiny_batch()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    errors = []
    for seed in range(60):
        rollout = model.observe(batch, seeded(seed))
        errors.append(float(model.figures(rollout, batch)["reconstruction_error"].detach()))
        optimizer.zero_grad()
        total_loss(model.losses(rollout, batch)).backward()
        optimizer.step()
    assert errors[-1] < 0.3 * errors[0]
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, start[name])] == []


def test_acting_needs_no_decoder() -> None:
    model, batch = autoencoder(), tiny_batch()
    pruned = model.for_acting()
    assert not any(name.startswith("decoder") for name in pruned.state_dict())
    assert any(name.startswith("decoder") for name in model.state_dict())
    row = {name: value[:, 0] for name, value in batch.observations.items()}
    inputs = batch.action[:, 0], row, batch.is_first[:, 0], torch.zeros(3, 0)
    assert torch.equal(pruned.filter(pruned.initial(3), *inputs).mean, model.filter(model.initial(3), *inputs).mean)


@pytest.mark.parametrize(("kl", "lines"), [(0.0, 1), (3.0, 0)])
def test_a_collapsed_latent_is_named(kl: float, lines: int) -> None:
    found = autoencoder().warnings({"kl": kl})
    assert len(found) == lines
    assert all("world_model.kl_weight" in line for line in found)


def test_it_needs_neither_actions_nor_rewards() -> None:
    assert uses_unacted(autoencoder(), RewardOnly(autoencoder()))  # so that episodes without actions are sampled
    model, batch = autoencoder(), tiny_batch()
    unknown = replace(batch, action=torch.zeros_like(batch.action), reward=torch.zeros_like(batch.reward))
    losses = [total_loss(model.losses(model.observe(one, seeded()), one)) for one in (batch, unknown)]
    assert torch.equal(*losses)
