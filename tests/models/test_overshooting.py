"""Latent overshooting: priors of several steps, compared with a closed form and with a loop over rows and distances."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.core.records import Loss, Rollout, SequenceBatch, total_loss
from dreamset.core.states import map_state
from dreamset.models.recurrent.divergences import Compared, FreeNatsKL, OvershootingKL
from dreamset.models.recurrent.latents import GaussianLatent
from dreamset.models.recurrent.rssm import RSSM, RecurrentState
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import seeded, tiny_batch, tiny_model

OVERSHOOTING = "world_model/divergence=overshooting"


def overshooting_model(distance: int, *overrides: str) -> WorldModel:
    return tiny_model(OVERSHOOTING, f"world_model.divergence.distance={distance}", *overrides)


def batch_with_border() -> SequenceBatch:
    """Three windows of six rows; in the second one, an episode begins in row 3."""
    batch = tiny_batch()
    is_first = batch.is_first.clone()
    is_first[1, 3] = True
    return replace(batch, is_first=is_first)


def losses_of(model: WorldModel, batch: SequenceBatch) -> dict[str, Loss]:
    losses = model.losses(model.observe(batch, seeded()), batch)
    return {name: loss for name, loss in losses.items() if name in ("kl", "overshooting")}


@pytest.mark.parametrize("free_nats", [0.0, 3.0])
@pytest.mark.parametrize("per_row", ["true", "false"])
def test_distance_one_is_the_kl_of_dreamer_v1_bit_for_bit(free_nats: float, per_row: str) -> None:
    settings = (f"free_nats={free_nats}", "weights.kl=0.7", f"++world_model.divergence.per_row={per_row}")
    models = [overshooting_model(1, *settings), tiny_model(*settings)]
    totals, gradients = [], []
    for model in models:
        losses = losses_of(model, batch_with_border())
        totals.append(total_loss(losses))
        totals[-1].backward()
        gradients.append([value.grad for value in model.dynamics.parameters()])
        assert losses["kl"].weight == 0.7
    assert torch.equal(*totals)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


A, B, C, G, RAW = 0.9, 0.5, 0.3, 1.2, 0.1  # h' = A z + B a + C h; prior N(G h, std^2)


class Sum(nn.Module):
    """An input layer without a nonlinearity."""

    stochastic_bias = False
    size = 1

    def prepare(self, action: Tensor) -> Tensor:
        return action

    def forward(self, stochastic: Tensor, prepared: Tensor) -> Tensor:
        return stochastic + prepared


class LinearCell(nn.Module):
    """x + C h."""

    size = 1

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        return inputs + C * state


def linear_rssm() -> RSSM:
    """A linear-Gaussian state-space model with one deterministic and one stochastic number."""
    rssm = RSSM(
        1,
        1,
        latent=GaussianLatent(1),
        cell=lambda _: LinearCell(),
        hidden=1,
        inputs=lambda hidden, style: Sum(),  # noqa: ARG005
        prior_layers=0,
    ).double()
    with torch.no_grad():
        rssm.from_stochastic.weight.fill_(A)
        rssm.from_action.weight.fill_(B)
        rssm.prior_head[0].weight.copy_(torch.tensor([[G], [0.0]], dtype=torch.float64))
        rssm.prior_head[0].bias.copy_(torch.tensor([0.0, RAW], dtype=torch.float64))
    return rssm


def test_expected_kl_of_a_linear_gaussian_model_is_the_closed_form() -> None:
    distance, rows = 4, 6
    rssm, numbers = linear_rssm(), np.random.default_rng(0)
    action, z = numbers.uniform(-1, 1, rows), numbers.normal(size=rows)
    h = np.zeros(rows)
    for t in range(1, rows):
        h[t] = A * z[t - 1] + B * action[t] + C * h[t - 1]
    mean, std = numbers.normal(size=rows), 0.1 + np.log1p(np.exp(numbers.normal(size=rows)))  # of the posterior
    prior_std = 0.1 + np.log1p(np.exp(RAW))

    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=distance - 1)))  # their mean over a square is exact
    count = len(signs)

    def copies(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).expand(count, rows)

    # a path from row s takes the numbers of the rows s + 1, s + 2, ...: the same sign for one distance in all rows
    noise = signs.t()[:, :, None, None].expand(-1, -1, rows, -1).double()
    states = RecurrentState(copies(h)[..., None], copies(z)[..., None])
    posterior = torch.stack([copies(mean), copies(np.log(np.expm1(std - 0.1)))], dim=-1)
    first = torch.zeros(count, rows, dtype=torch.bool)
    prior = rssm.prior_head(states.deterministic)

    def further() -> Iterator[tuple[Tensor, Tensor]]:
        return rssm.further_priors(states, prior, copies(action)[..., None], first, noise)

    divergence = OvershootingKL(free_nats=0.0, distance=distance, further_weight=2.0)
    loss = divergence(Compared(rssm.latent, posterior, prior, further))["overshooting"]

    expected = 0.0
    for d in range(2, distance + 1):
        kls = []
        for t in range(d, rows):
            centre, variance = h[t - d + 1], 0.0  # of h after one step
            for k in range(t - d + 2, t + 1):
                centre = (A * G + C) * centre + B * action[k]
                variance = (A * G + C) ** 2 * variance + (A * prior_std) ** 2
            apart = (mean[t] - G * centre) ** 2 + G**2 * variance
            kls.append(0.5 * ((std[t] ** 2 + apart) / prior_std**2 - 1) + np.log(prior_std / std[t]))
        expected += np.mean(kls)
    assert loss.value.mean().item() == pytest.approx(expected, rel=1e-12)
    assert loss.weight == pytest.approx(2.0 / distance)


def naive(model: WorldModel, rollout: Rollout, batch: SequenceBatch, distance: int) -> float:
    """The sum over distances of the mean KL, with one imagined path for each window, row and distance."""
    details, dynamics = rollout.details, model.dynamics
    action = model.spec.action.normalize(batch.action)
    result = 0.0
    for d in range(2, distance + 1):
        kls = []
        for b, t in itertools.product(range(3), range(6)):
            if t - d < 0 or batch.is_first[b, t - d + 1 : t + 1].any():
                continue
            state = map_state(lambda value, b=b, t=t, d=d: value[b, t - d][None], rollout.states)
            for step in range(1, d + 1):
                row = t - d + step
                numbers = details.noise[min(step, d - 1) - 1][b, row][None]  # the last sample is not used
                state = dynamics.step(state, action[b, row][None], numbers)
            kls.append(dynamics.latent.kl(details.posterior[b, t], dynamics.prior_head(state.deterministic)[0]).item())
        result += float(np.mean(kls))
    return result


@pytest.mark.parametrize("overrides", [(), ("world_model/dynamics/latent=categorical",), ("world_model=dreamer_v3",)])
@pytest.mark.parametrize("distance", [2, 4])
def test_overshooting_of_all_rows_at_once_equals_a_loop_over_rows_and_distances(
    distance: int, overrides: tuple[str, ...]
) -> None:
    model = tiny_model(
        *overrides,
        OVERSHOOTING,
        f"world_model.divergence.distance={distance}",
        "world_model.divergence.further_weight=0.5",
    )
    batch = batch_with_border()
    rollout = model.observe(batch, seeded())
    loss = model.losses(rollout, batch)["overshooting"]
    assert loss.value.mean().item() == pytest.approx(naive(model, rollout, batch, distance), rel=1e-5)


def test_valid_rows_have_their_start_in_the_window_and_in_the_same_episode() -> None:
    model, batch = overshooting_model(9), batch_with_border()
    rollout = model.observe(batch, seeded())
    details = rollout.details
    priors = model.dynamics.further_priors(rollout.states, details.prior, batch.action, batch.is_first, details.noise)
    valid = [["".join(str(int(flag)) for flag in row) for row in flags[:2]] for _, flags in priors]
    assert valid == [["001111", "001001"], ["000111", "000000"], ["000011", "000000"], ["000001", "000000"]]


def test_rows_before_a_border_do_not_change_the_loss_of_later_rows() -> None:
    model, batch = overshooting_model(4), batch_with_border()
    reward = batch.reward
    early = torch.zeros_like(reward, dtype=torch.bool)
    early[1, :3] = True
    changed = replace(
        batch,
        observations={
            name: torch.where(early.reshape(3, 6, *[1] * (value.dim() - 2)), value.roll(1, 0), value)
            for name, value in batch.observations.items()
        },
        action=torch.where(early[..., None], batch.action.roll(1, 0), batch.action),
    )
    before, after = (losses_of(model, data)["overshooting"].value for data in (batch, changed))
    assert torch.equal(before[~early], after[~early])
    assert not torch.equal(before[early], after[early])
    assert before[1, 5] > 0  # the one later row of the window that two steps reach


def test_loss_of_further_steps_trains_the_prior_and_not_its_target() -> None:
    model, batch = overshooting_model(3), tiny_batch()
    embedding = torch.randn(3, 6, model.embedding_size, generator=seeded()).requires_grad_()
    model.encoder.forward = lambda observations: embedding  # noqa: ARG005
    losses = losses_of(model, batch)
    further, first = (
        torch.autograd.grad(losses[name].value.sum(), embedding, retain_graph=True)[0]
        for name in ("overshooting", "kl")
    )
    assert torch.count_nonzero(further[:, -1]) == 0  # the last row is only a target
    assert torch.count_nonzero(first[:, -1]) > 0
    assert torch.count_nonzero(further[:, 0]) > 0  # the first row is only a start, whose sample is not stopped
    losses["overshooting"].value.sum().backward()
    for network in (model.dynamics.prior_head, model.dynamics.cell, model.dynamics.from_action):
        assert all(value.grad.any() for value in network.parameters())


def test_only_overshooting_draws_further_numbers_and_after_the_posterior() -> None:
    batch, drawn = tiny_batch(), seeded()
    plain, one, three = tiny_model(), overshooting_model(1), overshooting_model(3)
    plain.noise((6, 3), drawn)
    after, features = [], []
    for model in (plain, one, three):
        generator = seeded()
        features.append(model.observe(batch, generator).features)
        after.append(generator.get_state())
    assert torch.equal(after[0], drawn.get_state())
    assert torch.equal(after[1], drawn.get_state())
    assert not torch.equal(after[2], drawn.get_state())
    assert torch.equal(features[0], features[2])


@pytest.mark.parametrize("rows", [1, 2])
def test_a_window_too_short_for_overshooting_has_the_plain_kl(rows: int) -> None:
    batch = tiny_batch(3, rows)
    losses = losses_of(overshooting_model(5), batch)
    assert torch.equal(losses["overshooting"].value, torch.zeros(3, rows))
    assert torch.equal(losses["kl"].value, losses_of(tiny_model(), batch)["kl"].value)


def test_free_nats_apply_to_each_distance() -> None:
    model = overshooting_model(3, "free_nats=1e6")
    loss = losses_of(model, batch_with_border())["overshooting"]
    assert torch.equal(loss.value, torch.full((3, 6), 2e6))
    loss.value.sum().backward()
    assert not any(value.grad.any() for value in model.dynamics.prior_head.parameters())


def test_free_nats_per_row_stop_the_gradient_of_rows_below_them() -> None:
    latent = GaussianLatent(1)
    posterior = torch.tensor([[[3.0, 0.0], [0.1, 0.0]]], requires_grad=True)
    prior = torch.zeros(1, 2, 2)
    kl = latent.kl(posterior, prior)
    loss = FreeNatsKL(free_nats=3.0, per_row=True)(Compared(latent, posterior, prior))["kl"]
    assert kl[0, 0] > 3 > kl[0, 1]
    assert loss.value.tolist() == [[kl[0, 0].item(), 3.0]]
    loss.value.sum().backward()
    assert torch.count_nonzero(posterior.grad[0, 0]) > 0
    assert torch.count_nonzero(posterior.grad[0, 1]) == 0
