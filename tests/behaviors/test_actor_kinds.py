"""The actors of Dreamer v2 and v3: initial values, limits and the choice between discrete and continuous."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.behaviors.actor_critic.actors import BoundedNormalActor, OneHotActor, TruncatedNormalActor, actor_for
from dreamset.core.errors import UserError
from dreamset.models.layers import silu_rms_norm
from tests.behaviors.worlds import CHOICE, ONE
from tests.builders import seeded

FEATURES = torch.randn(200, 6, generator=seeded())
SIZES = {"hidden": 32, "layers": 2}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("actor", "start", "lowest", "highest"),
    [
        (TruncatedNormalActor, 1.1, 0.1, 2.1),  # 2 sigmoid(0) + 0.1
        (BoundedNormalActor, 0.9 / (1 + 2.718281828**-2) + 0.1, 0.1, 1.0),  # 0.9 sigmoid(2) + 0.1
    ],
)
def test_normal_actors_start_at_the_published_std_within_limits(
    actor: type[TruncatedNormalActor], start: float, lowest: float, highest: float
) -> None:
    network = actor(6, ONE, **SIZES)
    distribution = network(torch.zeros(1, 6))  # biases start at zero
    assert distribution.scale.item() == pytest.approx(start)
    assert distribution.location.item() == 0
    extreme = network(FEATURES * 1e4)
    assert extreme.scale.min().item() == pytest.approx(lowest)
    assert extreme.scale.max().item() == pytest.approx(highest)
    assert 0.99 < extreme.location.abs().max().item() <= 1


@pytest.mark.parametrize(
    ("actor", "std"),
    [
        (TruncatedNormalActor, lambda raw: 2.0 / (1 + np.exp(-raw / 2)) + 0.1),
        (BoundedNormalActor, lambda raw: 0.9 / (1 + np.exp(-raw - 2)) + 0.1),
    ],
)
def test_normal_actors_compute_mean_and_std_from_network_outputs(
    actor: type[TruncatedNormalActor], std: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    network = actor(6, ONE, **SIZES).double()
    mean, raw = network.layers(FEATURES.double()).detach().numpy().T
    distribution = network(FEATURES.double())
    np.testing.assert_allclose(distribution.location[:, 0].detach().numpy(), np.tanh(mean), rtol=1e-12)
    np.testing.assert_allclose(distribution.scale[:, 0].detach().numpy(), std(raw), rtol=1e-12)


@pytest.mark.parametrize(("actor", "action"), [(BoundedNormalActor, ONE), (OneHotActor, CHOICE)])
def test_small_output_scale_gives_similar_initial_outputs_in_all_states(
    actor: type[OneHotActor], action: object
) -> None:
    def outputs(output_scale: float) -> torch.Tensor:
        torch.manual_seed(0)
        return actor(6, action, output_scale=output_scale, style=silu_rms_norm(), **SIZES).layers(FEATURES)

    torch.testing.assert_close(outputs(0.01), 0.01 * outputs(1.0))
    assert outputs(0.01).abs().max() < 0.05 < outputs(1.0).abs().max()


def test_uniform_mix_keeps_every_action_possible() -> None:
    extreme = OneHotActor(6, CHOICE, unimix=0.01, **SIZES)(FEATURES * 1e6)
    assert extreme.probs.min().item() == pytest.approx(0.01 / 3)
    assert extreme.mode.sum(-1).eq(1).all()
    assert OneHotActor(6, CHOICE, **SIZES)(FEATURES * 1e6).probs.min().item() == 0


def test_actor_for_builds_the_actor_that_the_actions_need() -> None:
    build = partial(actor_for, continuous=partial(BoundedNormalActor, **SIZES), discrete=partial(OneHotActor, **SIZES))
    assert isinstance(build(6, ONE), BoundedNormalActor)
    assert isinstance(build(6, CHOICE), OneHotActor)


@pytest.mark.parametrize("actor", [TruncatedNormalActor, BoundedNormalActor])
def test_normal_actors_refuse_discrete_actions(actor: type[TruncatedNormalActor]) -> None:
    with pytest.raises(UserError, match="has 3 discrete actions"):
        actor(6, CHOICE, **SIZES)


def test_one_hot_actors_refuse_continuous_actions() -> None:
    with pytest.raises(UserError, match="1 continuous"):
        OneHotActor(6, ONE, **SIZES)
