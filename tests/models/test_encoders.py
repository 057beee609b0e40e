"""Encoders: how embeddings depend on observations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec, VectorStatistics
from dreamset.models.encoders import Encoder, ImageEncoder, VectorEncoder
from dreamset.models.layers import images_to_planes
from tests.builders import tiny_batch, tiny_spec


def frames(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_images_to_planes_gives_centred_floats_with_channels_first() -> None:
    image = frames(2, 3, 4, 5, 3)
    before = image.clone()
    planes = images_to_planes(image)
    expected = (image.numpy().reshape(6, 4, 5, 3) / 255 - 0.5).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(planes.numpy(), expected, atol=1e-7)
    assert torch.equal(image, before)
    extremes = images_to_planes(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1))
    assert extremes.flatten().tolist() == [-0.5, 0.5]


@pytest.mark.parametrize(("edge", "positions", "widths"), [(16, 4, 2), (32, 4, 4), (64, 4, 8)])
def test_image_encoder_halves_frames_to_two_by_two_positions(edge: int, positions: int, widths: int) -> None:
    encoder = ImageEncoder(ArraySpec((edge, edge, 3), "uint8"), depth=4)
    assert encoder.embedding_size == positions * widths * 4
    image = frames(2, 3, edge, edge, 3)
    embedding = encoder(image)
    assert embedding.shape == (2, 3, encoder.embedding_size)
    alone = encoder(image[1, 2])
    torch.testing.assert_close(embedding[1, 2], alone)
    assert not torch.allclose(embedding[1, 2], embedding[1, 1])


def test_published_image_encoder_has_1024_outputs() -> None:
    assert ImageEncoder(ArraySpec((64, 64, 3), "uint8"), depth=32).embedding_size == 1024


@pytest.mark.parametrize("position", [(0, 0), (8, 8), (3, 12)])
def test_embedding_depends_on_pixels_everywhere_in_the_frame(position: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(ArraySpec((16, 16, 3), "uint8"), depth=8)
    image = frames(16, 16, 3)
    changed = image.clone()
    changed[position] = 255 - changed[position]
    assert not torch.allclose(encoder(image), encoder(changed))


@pytest.mark.parametrize("shape", [(4, 4, 3), (64, 32, 3)])
def test_image_encoder_error_names_the_refused_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError) as error:
        ImageEncoder(ArraySpec(shape, "uint8"), depth=2)
    assert str(shape) in str(error.value)


def test_vectors_are_standardised_with_the_statistics_of_the_dataset() -> None:
    spec = ArraySpec((2,), "float32")
    encoder = VectorEncoder(spec, VectorStatistics((3.0, -1.0), (2.0, 0.5)), hidden=8, layers=1)
    plain = VectorEncoder(spec, VectorStatistics((0.0, 0.0), (1.0, 1.0)), hidden=8, layers=1)
    plain.layers.load_state_dict(encoder.layers.state_dict())
    vector = torch.tensor([[7.0, -2.0]])
    torch.testing.assert_close(encoder(vector), plain(torch.tensor([[2.0, -2.0]])))
    assert not torch.allclose(encoder(vector), plain(vector))


def test_statistics_are_saved_with_the_weights() -> None:
    spec = ArraySpec((2,), "float32")
    source = VectorEncoder(spec, VectorStatistics((3.0, -1.0), (2.0, 0.5)), hidden=8, layers=1)
    copy = VectorEncoder(spec, VectorStatistics((0.0, 0.0), (1.0, 1.0)), hidden=8, layers=1)
    vector = torch.tensor([[7.0, -2.0]])
    assert not torch.equal(copy(vector), source(vector))
    copy.load_state_dict(source.state_dict())
    assert torch.equal(copy(vector), source(vector))


def test_embeddings_are_concatenated_in_the_order_of_observation_names() -> None:
    spec, batch = tiny_spec(), tiny_batch()
    encoder = Encoder(spec, depth=2, hidden=8, layers=1)
    embedding = encoder(batch.observations)
    image, vector = encoder.encoders["image"], encoder.encoders["state"]
    size = image.embedding_size
    assert encoder.embedding_size == embedding.shape[-1] == size + 8
    torch.testing.assert_close(embedding[..., :size], image(batch.observations["image"]))
    torch.testing.assert_close(embedding[..., size:], vector(batch.observations["state"]))


def test_encoder_accepts_observation_names_with_dots() -> None:
    spec = tiny_spec()
    dotted = replace(
        spec,
        observations={"robot.state": spec.observations["state"]},
        statistics={"robot.state": spec.statistics["state"]},
    )
    vector = tiny_batch().observations["state"]
    encoder = Encoder(dotted, depth=2, hidden=8, layers=1)
    (only,) = encoder.encoders.values()
    torch.testing.assert_close(encoder({"robot.state": vector}), only(vector))


def test_encoder_refuses_a_dataset_without_observations() -> None:
    with pytest.raises(UserError, match=r"dataset\.source\.observations"):
        Encoder(replace(tiny_spec(), observations={}), depth=2, hidden=8, layers=1)


def two_vectors() -> DataSpec:
    spec = tiny_spec()
    more = {"goal.place": ArraySpec((2,), "float32")}
    statistics = {"goal.place": VectorStatistics((5.0, -5.0), (0.5, 2.0))}
    return replace(spec, observations={**spec.observations, **more}, statistics={**spec.statistics, **statistics})


def test_one_encoder_reads_all_standardised_vectors_side_by_side() -> None:
    spec, batch = two_vectors(), tiny_batch()
    place = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(1)) + 5
    encoder = Encoder(spec, depth=2, hidden=8, layers=1, one_for_vectors=True)
    embedding = encoder({**batch.observations, "goal.place": place})
    image = encoder.encoders["image"](batch.observations["image"])
    assert list(encoder.encoders) == ["image"]
    assert embedding.shape[-1] == encoder.embedding_size == image.shape[-1] + 8
    assert torch.equal(embedding[..., :-8], image)
    parts = [(place, "goal.place"), (batch.observations["state"], "state")]  # in the order of their names
    columns = [
        (value.double().numpy() - spec.statistics[name].mean) / spec.statistics[name].std for value, name in parts
    ]
    layers = [(layer.weight, layer.bias) for layer in encoder.of_vectors.layers if isinstance(layer, torch.nn.Linear)]
    (w0, b0), (w1, b1) = [[tensor.detach().double().numpy() for tensor in layer] for layer in layers]
    hidden = np.concatenate(columns, axis=-1) @ w0.T + b0
    expected = np.where(hidden > 0, hidden, np.expm1(hidden)) @ w1.T + b1
    np.testing.assert_allclose(embedding[..., -8:].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_one_encoder_for_vectors_changes_nothing_for_images_alone() -> None:
    spec = replace(tiny_spec(), observations={"image": tiny_spec().observations["image"]})
    encoder = Encoder(spec, depth=2, hidden=8, layers=1, one_for_vectors=True)
    assert encoder.of_vectors is None
    assert encoder(tiny_batch().observations).shape[-1] == encoder.embedding_size
