"""Models that read and predict patch features."""

import numpy as np
import pytest
import torch

from dreamset.core.spec import VectorStatistics
from dreamset.models.decoders import Decoder
from dreamset.models.encoders import Encoder, PatchesEncoder
from dreamset.models.layers import RELU
from dreamset.pipeline.config.instantiate import build_part
from tests.builders import PATCHES, patched_batch, patched_spec, seeded, tiny_config, tiny_model

STATISTICS = VectorStatistics((0.5,), (2.0,))


def test_every_patch_is_standardised_and_projected_alike() -> None:
    encoder = PatchesEncoder(PATCHES, STATISTICS, hidden=5, layers=0, projection=3, style=RELU).double()
    patches = torch.randn(7, *PATCHES.shape, generator=seeded()).half()
    values = {name: value.detach().numpy() for name, value in encoder.named_parameters()}
    rows = (patches.double().numpy() - 0.5) / 2.0
    projected = rows @ values["project.weight"].T + values["project.bias"]
    expected = projected.reshape(7, -1) @ values["layers.0.weight"].T + values["layers.0.bias"]
    np.testing.assert_allclose(encoder(patches).detach().numpy(), expected, rtol=1e-10)


def test_half_precision_features_are_standardised_in_float32() -> None:
    encoder = PatchesEncoder(PATCHES, VectorStatistics((1000.0,), (0.25,)), hidden=2, layers=0)
    assert encoder.standardize(torch.full(PATCHES.shape, 1000.5).half()).unique().tolist() == [2.0]
    assert encoder(torch.zeros(PATCHES.shape).half()).dtype == torch.float32


@pytest.mark.parametrize("one_for_vectors", [False, True])
def test_encoder_reads_images_vectors_and_patches(one_for_vectors: bool) -> None:
    encoder = Encoder(patched_spec(), depth=2, hidden=4, layers=1, one_for_vectors=one_for_vectors)
    observations = {
        name: value.requires_grad_() if value.is_floating_point() else value
        for name, value in patched_batch().observations.items()
    }
    embedding = encoder(observations)
    assert embedding.shape[-1] == encoder.embedding_size
    embedding.sum().backward()
    for name in ("state", "patches"):
        gradient = observations[name].grad
        assert gradient is not None
        assert gradient.any(), name
    assert encoder.names == ["image", "patches", "state"]


def test_decoder_predicts_patches_beside_other_observations() -> None:
    decoder = Decoder(6, patched_spec(), depth=2, hidden=4, layers=1, vector_trunk=RELU)
    assert decoder.on_trunk == {"state"}
    batch = patched_batch()
    features = torch.randn(*batch.reward.shape, 6, generator=seeded())
    log_prob = decoder.log_prob(features, batch.observations)
    assert {name: value.shape for name, value in log_prob.items()} == dict.fromkeys(
        ("image", "patches", "state"), batch.reward.shape
    )
    assert decoder(features)["patches"].mean.shape == batch.observations["patches"].shape


@pytest.mark.parametrize(
    "overrides",
    [
        ["world_model=dreamer_v2"],
        ["world_model=dreamer_v3"],
        ["world_model=tdmpc2_continue", "network.deterministic=16"],
        ["world_model=observations"],
    ],
)
def test_every_kind_of_world_model_reads_patches(overrides: list[str]) -> None:
    model = build_part(tiny_config(*overrides)["world_model"], patched_spec())
    batch = patched_batch()

    def seen() -> torch.Tensor:
        rollout = model.observe(batch, seeded())
        return torch.cat([rollout.features, rollout.embedding], dim=-1)  # sampled classes may stay the same

    before = seen()
    batch.observations["patches"].add_(1.0)
    assert before.shape[:2] == batch.reward.shape
    assert not torch.allclose(before, seen())


def test_world_model_filters_half_and_single_precision_alike() -> None:
    """Environments are played in float32, and stores are float16."""
    model, batch = tiny_model(spec=patched_spec()), patched_batch()
    rows = {name: value[:, 0] for name, value in batch.observations.items()}
    single = {**rows, "patches": rows["patches"].float()}
    first, noise = batch.is_first[:, 0], model.noise((3,), seeded())
    states = [model.filter(model.initial(3), batch.action[:, 0], seen, first, noise) for seen in (rows, single)]
    assert torch.equal(*(model.features(state) for state in states))
