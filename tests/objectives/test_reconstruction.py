"""Reconstruction: which observations it predicts, and with which weight."""

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.objectives.reconstruction import Reconstruction
from tests.builders import seeded, tiny_batch, tiny_model

SIZES = {"depth": 2, "hidden": 8, "layers": 1}


def test_reconstruction_losses_are_negative_log_likelihoods() -> None:
    model, batch = tiny_model(), tiny_batch()
    objective = Reconstruction(model, weight=0.5, **SIZES)
    rollout = model.observe(batch, seeded())
    losses = objective(rollout, batch, model)
    assert set(losses) == {"reconstruction.image", "reconstruction.state"}
    prediction = objective.decoder(rollout.features)
    image = np.moveaxis(batch.observations["image"].numpy() / 255 - 0.5, -1, 2)
    mean = prediction["image"].mean.detach().numpy()
    expected = (0.5 * (image - mean) ** 2 + 0.5 * np.log(2 * np.pi)).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(losses["reconstruction.image"].value.detach().numpy(), expected, rtol=1e-5)
    assert {loss.weight for loss in losses.values()} == {0.5}


def test_only_named_observations_are_reconstructed() -> None:
    model, batch = tiny_model(), tiny_batch()
    everything = Reconstruction(model, weight=1.0, **SIZES)
    only = Reconstruction(model, weight=1.0, names=["state"], **SIZES)
    rollout = model.observe(batch, seeded())
    assert set(only(rollout, batch, model)) == {"reconstruction.state"}
    assert sum(p.numel() for p in only.parameters()) < sum(p.numel() for p in everything.parameters())


def test_unknown_observation_error_lists_the_available_observations() -> None:
    with pytest.raises(UserError) as error:
        Reconstruction(tiny_model(), weight=1.0, names=["state", "depth_map"], **SIZES)
    for text in ("depth_map", "image", "state", "objective.names"):
        assert text in str(error.value)
    assert "'state', 'depth_map'" not in str(error.value)  # the valid name is not listed as unknown
