"""Free nats are a threshold on the mean KL."""

import math

import pytest
import torch

from dreamset.models.recurrent.divergences import Compared, FreeNatsKL
from dreamset.models.recurrent.latents import GaussianLatent

LATENT = GaussianLatent(1, min_std=0.0)
UNIT_STD = math.log(math.e - 1)  # softplus of this is 1


def pair(*kls: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Posteriors [1, T, 2] with the given KLs to N(0, 1): KL = mean^2 / 2."""
    means = torch.tensor([[math.sqrt(2 * kl) for kl in kls]], dtype=torch.float64)
    posterior = torch.stack([means, torch.full_like(means, UNIT_STD)], dim=-1)
    prior = torch.stack([torch.zeros_like(means), torch.full_like(means, UNIT_STD)], dim=-1)
    return posterior.requires_grad_(), prior.requires_grad_()


def values(posterior: torch.Tensor, prior: torch.Tensor, *, free_nats: float) -> torch.Tensor:
    return FreeNatsKL(free_nats=free_nats)(Compared(LATENT, posterior, prior))["kl"].value


def test_kl_below_free_nats_is_constant_without_gradient() -> None:
    posterior, prior = pair(0.5, 2.0, 3.0)
    value = values(posterior, prior, free_nats=3.0)
    assert value.tolist() == [[3.0, 3.0, 3.0]]
    value.mean().backward()
    assert torch.count_nonzero(posterior.grad) == 0
    assert torch.count_nonzero(prior.grad) == 0


def test_kl_above_free_nats_is_unchanged_with_its_gradient() -> None:
    posterior, prior = pair(4.0, 2.0, 6.0)
    value = values(posterior, prior, free_nats=3.0)
    torch.testing.assert_close(value, torch.tensor([[4.0, 2.0, 6.0]], dtype=torch.float64))
    value.sum().backward()
    mean = posterior.detach()[..., 0]  # d KL / d mean = mean, and the opposite for the prior's
    torch.testing.assert_close(posterior.grad[..., 0], mean)
    torch.testing.assert_close(prior.grad[..., 0], -mean)


def test_free_nats_apply_to_the_mean_not_to_each_element() -> None:
    above = values(*pair(10.0, 0.0), free_nats=3.0)  # mean 5: the zero is not raised to 3
    torch.testing.assert_close(above, torch.tensor([[10.0, 0.0]], dtype=torch.float64))
    below = values(*pair(5.0, 0.0), free_nats=3.0)  # mean 2.5: the five is not kept
    assert below.tolist() == [[3.0, 3.0]]


def test_zero_free_nats_leave_the_kl_unchanged() -> None:
    value = values(*pair(0.01, 0.02), free_nats=0.0)
    torch.testing.assert_close(value, torch.tensor([[0.01, 0.02]], dtype=torch.float64))


def test_kl_loss_keeps_its_weight_separate_from_the_values() -> None:
    loss = FreeNatsKL(weight=0.25, free_nats=0.0)(Compared(LATENT, *pair(2.0)))["kl"]
    assert loss.weight == 0.25
    assert loss.value.item() == pytest.approx(2.0)
