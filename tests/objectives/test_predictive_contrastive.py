"""The predictive contrastive objective, compared with its equation in NumPy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.core.records import SequenceBatch
from dreamset.objectives.cosine_contrastive import CosineContrastive
from dreamset.objectives.predictive_contrastive import PredictiveContrastive
from tests.builders import seeded, tiny_batch, tiny_model
from tests.objectives.test_cosine_contrastive import loss_of_pairs

Array = NDArray[np.float64]
TEMPERATURE = 0.2


def objective() -> tuple[PredictiveContrastive, Any]:
    model = tiny_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PredictiveContrastive(model, weight=0.5, temperature=TEMPERATURE, size=6, hidden=8, layers=1), model


def with_beginnings(*places: tuple[int, int]) -> SequenceBatch:
    """A batch in which episodes begin at exactly these windows and rows."""
    batch = tiny_batch()
    is_first = torch.zeros_like(batch.is_first)
    for window, row in places:
        is_first[window, row] = True
    return replace(batch, is_first=is_first)


def array(values: Tensor) -> Array:
    converted: Array = values.detach().double().numpy()
    return converted


def next_loss(batch: SequenceBatch) -> tuple[Array, Array]:
    """The loss of the next observation and its reference, which collects the pairs one by one."""
    predictive, model = objective()
    rollout = model.observe(batch, seeded())
    got = predictive(rollout, batch, model)["predictive_contrastive.next"].value
    scaled = model.spec.action.normalize(batch.action)
    predictions, observations, places = [], [], []
    for window in range(batch.reward.shape[0]):
        for row in range(1, batch.reward.shape[1]):
            if not batch.is_first[window, row]:
                before = torch.cat([rollout.features[window, row - 1], scaled[window, row]])
                predictions.append(array(predictive.next_head(before)))
                observations.append(array(predictive.observation_head(rollout.embedding[window, row])))
                places.append((window, row))
    expected = np.zeros(batch.reward.shape)
    values = loss_of_pairs(np.stack(predictions), np.stack(observations), TEMPERATURE)
    for place, value in zip(places, values, strict=True):
        expected[place] = value
    return array(got), expected


def test_next_loss_pairs_each_observation_with_the_row_before_it_and_the_action_between() -> None:
    got, expected = next_loss(with_beginnings())
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert (got[:, 1:] > 0).all()
    assert (got[:, 0] == 0).all()


def test_rows_where_an_episode_begins_have_no_next_loss_and_are_no_negatives() -> None:
    got, expected = next_loss(with_beginnings((0, 0), (1, 2), (2, 3)))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert got[1, 2] == got[2, 3] == 0


def test_batch_of_beginnings_has_no_next_loss() -> None:
    predictive, model = objective()
    batch = replace(tiny_batch(), is_first=torch.ones_like(tiny_batch().is_first))
    losses = predictive(model.observe(batch, seeded()), batch, model)
    assert (losses["predictive_contrastive.next"].value == 0).all()
    assert (losses["predictive_contrastive.own"].value > 0).all()


def test_own_loss_is_that_of_the_cosine_objective() -> None:
    predictive, model = objective()
    cosine = CosineContrastive(model, weight=0.5, temperature=TEMPERATURE, size=6, hidden=8, layers=1)
    cosine.load_state_dict(predictive.state_dict(), strict=False)  # all but the network of the next observation
    batch = tiny_batch()
    rollout = model.observe(batch, seeded())
    losses = predictive(rollout, batch, model)
    torch.testing.assert_close(
        losses["predictive_contrastive.own"].value, cosine(rollout, batch, model)["cosine_contrastive"].value
    )
    assert {loss.weight for loss in losses.values()} == {0.5}


@pytest.mark.parametrize("side", ["features", "embedding"])
def test_next_loss_alone_trains_the_encoder_through_each_side(side: str) -> None:
    predictive, model = objective()
    batch = with_beginnings()
    rollout = model.observe(batch, seeded())
    one_path = replace(rollout, **{side: getattr(rollout, side).detach()})
    predictive(one_path, batch, model)["predictive_contrastive.next"].value.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.encoder.parameters())


def test_action_changes_the_next_loss_only() -> None:
    predictive, model = objective()
    batch = with_beginnings()
    rollout = model.observe(batch, seeded())
    before = predictive(rollout, batch, model)
    after = predictive(rollout, replace(batch, action=-batch.action), model)
    own, following = "predictive_contrastive.own", "predictive_contrastive.next"
    assert torch.equal(before[own].value, after[own].value)
    assert not torch.allclose(before[following].value, after[following].value)
