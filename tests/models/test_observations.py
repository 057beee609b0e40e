"""Observations as a state: what is read, what is learned, what is refused."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dreamset.core.capabilities import Dynamics, Representation, RewardModel, Trainable
from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec
from dreamset.models.heads import NormalHead
from dreamset.models.observations import Observations
from tests.builders import seeded, tiny_batch, tiny_spec

HEAD = partial(NormalHead, hidden=16, layers=1)


def observations_model(*, image_edge: int = 4, spec: DataSpec | None = None) -> Observations:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Observations(spec or tiny_spec(), reward_head=HEAD, image_edge=image_edge)


def test_features_are_averaged_images_and_standardised_vectors_in_the_order_of_names() -> None:
    model, batch = observations_model(), tiny_batch()
    image = batch.observations["image"].numpy().astype(np.float64)  # [3, 6, 16, 16, 3]
    reduced = image.reshape(3, 6, 4, 4, 4, 4, 3).mean((3, 5)) / 255 - 0.5  # [3, 6, 4, 4, 3]
    statistics = tiny_spec().statistics["state"]
    vector = (batch.observations["state"].double().numpy() - statistics.mean) / np.array(statistics.std)
    planes = np.moveaxis(reduced, -1, 2).reshape(3, 6, -1)
    expected = torch.from_numpy(np.concatenate([planes, vector], axis=-1))
    features = model.observe(batch, seeded()).features
    assert features.shape[-1] == model.feature_size == 4 * 4 * 3 + 3
    torch.testing.assert_close(features.double(), expected, atol=1e-5, rtol=1e-5)


def test_small_images_keep_their_pixels() -> None:
    spec = replace(tiny_spec(), observations={"image": ArraySpec((2, 5, 1), "uint8")})
    model = observations_model(spec=spec)
    image = torch.arange(10, dtype=torch.uint8).reshape(1, 2, 5, 1)
    state = model.filter(model.initial(1), torch.zeros(1, 2), {"image": image}, torch.tensor([True]), torch.zeros(1, 0))
    assert model.feature_size == 2 * 4  # five columns become four
    for edge in (5, 16):
        wide = observations_model(image_edge=edge, spec=spec)
        first, none = torch.tensor([True]), torch.zeros(1, 0)
        state = wide.filter(wide.initial(1), torch.zeros(1, 2), {"image": image}, first, none)
        assert wide.feature_size == 10
        torch.testing.assert_close(wide.features(state)[0], torch.arange(10) / 255 - 0.5)


def test_filter_equals_observe_whatever_came_before() -> None:
    model, batch = observations_model(), tiny_batch()
    row = {name: value[:, 3] for name, value in batch.observations.items()}
    earlier = model.filter(model.initial(3), batch.action[:, 3], row, batch.is_first[:, 3], torch.zeros(3, 0))
    later = model.filter(earlier, batch.action[:, 4] + 1, row, ~batch.is_first[:, 3], torch.zeros(3, 0))
    assert torch.equal(earlier.vector, later.vector)
    assert torch.equal(later.vector, model.observe(batch, seeded()).features[:, 3])


def test_it_represents_and_predicts_rewards_but_cannot_imagine() -> None:
    model = observations_model()
    assert isinstance(model, Representation)
    assert isinstance(model, Trainable)
    assert isinstance(model, RewardModel)
    assert not isinstance(model, Dynamics)


def test_only_the_reward_head_learns_and_it_fits_the_reward() -> None:
    model, batch = observations_model(), tiny_batch()
    assert [name for name, part in model.parts().items() if part is not None] == ["reward_head"]
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"reward_head"}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    rollout = model.observe(batch, seeded())
    for _ in range(200):
        optimizer.zero_grad()
        model.losses(rollout, batch)["reward"].value.mean().backward()
        optimizer.step()
    error = (model.reward_head(rollout.features).mean - batch.reward).square().mean()
    assert error < 0.05 * batch.reward.var()


@pytest.mark.parametrize("edge", [0, -1])
def test_an_image_edge_below_one_is_refused(edge: int) -> None:
    with pytest.raises(UserError, match=rf"world_model.image_edge is {edge}; allowed: 1 or more"):
        observations_model(image_edge=edge)


def test_data_without_observations_are_refused() -> None:
    with pytest.raises(UserError, match="name at least one"):
        observations_model(spec=replace(tiny_spec(), observations={}))
