"""Frozen features: the formula, what it learns, and what it needs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamset.core.capabilities import acting_spec
from dreamset.core.errors import UserError
from dreamset.core.spec import DataSpec
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.objectives.base import Objective
from dreamset.objectives.frozen_features import FrozenFeatures
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import PATCHES, patched_batch, patched_spec, seeded, tiny_config, tiny_model, tiny_spec

SIZES = {"hidden": 8, "layers": 1}


def model_of(spec: DataSpec) -> WorldModel:
    return tiny_model("objective=frozen_features", spec=spec)


def test_loss_is_the_negative_log_likelihood_of_the_standardised_features() -> None:
    model, batch = model_of(patched_spec()), patched_batch()
    objective = FrozenFeatures(model, weight=0.25, **SIZES).double()
    rollout = model.observe(batch, seeded())
    rollout = replace(rollout, features=rollout.features.double())
    (loss,) = objective(rollout, batch, model).values()
    (decode,) = objective.decoders
    mean = decode(rollout.features).mean.detach().numpy()
    target = (batch.observations["patches"].double().numpy() - 0.5) / 2.0  # one mean and one deviation
    expected = (0.5 * (target - mean) ** 2 + 0.5 * np.log(2 * np.pi)).sum(axis=(2, 3))
    np.testing.assert_allclose(loss.value.detach().numpy(), expected, rtol=1e-10)
    assert loss.weight == 0.25


def test_prediction_of_a_patch_reads_only_its_own_code() -> None:
    model = model_of(patched_spec())
    (decode,) = FrozenFeatures(model, weight=1.0, **SIZES).decoders
    features = torch.randn(model.feature_size, generator=seeded(), requires_grad=True)
    codes = decode.codes(features).unflatten(-1, decode.shape)
    torch.testing.assert_close(decode(features).mean[2], decode.expand(codes[2]))


def test_model_that_reads_only_the_image_learns_to_predict_the_features() -> None:
    config = tiny_config("objective=frozen_features", "world_model.encoder.names=[image]", "network.hidden=32")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: WorldModel = build_part(config["world_model"], patched_spec())
        objective: Objective = build_part(config["objective"] | {"weight": 1.0}, model)
    trainer = WorldModelTrainer(
        model,
        objective,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
        clip_norm=100.0,
        generator=seeded(),
    )
    batch, name = patched_batch(2, 5), "loss/frozen_features.patches"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        history = [float(trainer.step(batch)[name]) for _ in range(150)]
    floor = PATCHES.size * 0.5 * math.log(2 * math.pi)
    assert floor < np.mean(history[-10:]) < floor + 0.15 * (history[0] - floor)


def test_model_acts_with_the_observations_that_it_reads() -> None:
    model = tiny_model("world_model.encoder.names=[image]", spec=patched_spec())
    assert set(model.spec.observations) == {"image", "state", "patches"}
    assert set(acting_spec(model).observations) == {"image"}
    batch = patched_batch()
    blind = replace(batch, observations={"image": batch.observations["image"]})
    torch.testing.assert_close(model.observe(blind, seeded()).features, model.observe(batch, seeded()).features)


@pytest.mark.parametrize("names", [[], ["depth"]])
def test_names_that_a_model_cannot_read_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match=r"world_model.encoder.names is .*; allowed: null, .* \['image', 'state'\]"):
        build_part(tiny_config()["world_model"] | {"encoder": encoder_node(names)}, tiny_spec())


def encoder_node(names: list[str]) -> dict[str, object]:
    return {**tiny_config()["world_model"]["encoder"], "names": names}


def test_data_without_patch_features_are_refused_with_the_transform_that_adds_them() -> None:
    with pytest.raises(UserError, match=r"only the observations \['image', 'state'\]; add the transform PatchFeatures"):
        FrozenFeatures(tiny_model(), weight=1.0, **SIZES)


def test_names_must_be_patch_features() -> None:
    with pytest.raises(UserError, match=r"objective.names lists \['image'\], .*; choose from \['patches'\]"):
        FrozenFeatures(model_of(patched_spec()), weight=1.0, names=["image", "patches"], **SIZES)
