"""KL balancing of v2 and the split KL of v3: the gradients of prior and posterior, with free nats and free bits."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamset.models.recurrent.divergences import BalancedKL, Compared, DynRepKL
from dreamset.models.recurrent.latents import CategoricalLatent, GaussianLatent, Latent

GAUSSIAN = GaussianLatent(1, min_std=0.0)
UNIT_STD = math.log(math.e - 1)  # softplus of this is 1


def pair(*kls: float) -> tuple[Tensor, Tensor]:
    """Posteriors [1, T, 2] with the given KLs to N(0, 1): KL = mean^2 / 2, with derivative mean."""
    means = torch.tensor([[math.sqrt(2 * kl) for kl in kls]], dtype=torch.float64)
    posterior = torch.stack([means, torch.full_like(means, UNIT_STD)], dim=-1)
    prior = torch.stack([torch.zeros_like(means), torch.full_like(means, UNIT_STD)], dim=-1)
    return posterior.requires_grad_(), prior.requires_grad_()


def full_gradients(latent: Latent, posterior: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the summed KL."""
    left, right = torch.autograd.grad(latent.kl(posterior, prior).sum(), (posterior, prior))
    return left, right


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("latent", [GaussianLatent(6), CategoricalLatent(3, 4), CategoricalLatent(3, 4, unimix=0.01)])
def test_balanced_kl_gives_alpha_of_the_gradient_to_the_prior(alpha: float, latent: Latent) -> None:
    generator = torch.Generator().manual_seed(0)
    posterior, prior = (
        torch.randn(2, 3, 12, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)
    )
    to_posterior, to_prior = full_gradients(latent, posterior, prior)
    loss = BalancedKL(alpha=alpha, free_nats=0.0)(Compared(latent, posterior, prior))["kl"]
    torch.testing.assert_close(loss.value, latent.kl(posterior, prior))  # balancing changes gradients, not values
    loss.value.sum().backward()
    torch.testing.assert_close(prior.grad, alpha * to_prior)
    torch.testing.assert_close(posterior.grad, (1 - alpha) * to_posterior)
    assert to_prior.abs().max() > 0.01
    assert to_posterior.abs().max() > 0.01


def test_free_nats_of_the_balanced_kl_apply_to_the_mean() -> None:
    posterior, prior = pair(1.5, 0.1)  # mean 0.8
    below = BalancedKL(free_nats=1.0)(Compared(GAUSSIAN, posterior, prior))["kl"].value
    assert below.tolist() == [[1.0, 1.0]]
    below.sum().backward()
    assert torch.count_nonzero(posterior.grad) == torch.count_nonzero(prior.grad) == 0
    above = BalancedKL(free_nats=1.0)(Compared(GAUSSIAN, *pair(2.5, 0.1)))[
        "kl"
    ].value  # mean 1.3: the 0.1 is not raised
    torch.testing.assert_close(above, torch.tensor([[2.5, 0.1]], dtype=torch.float64))


def test_balanced_kl_keeps_its_weight_separate_from_the_values() -> None:
    loss = BalancedKL(weight=0.1, free_nats=0.0)(Compared(GAUSSIAN, *pair(2.0)))["kl"]
    assert loss.weight == 0.1
    assert loss.value.item() == pytest.approx(2.0)


def test_dynamics_loss_trains_only_the_prior_representation_loss_only_the_posterior() -> None:
    posterior, prior = pair(4.0, 2.0)
    to_posterior, to_prior = full_gradients(GAUSSIAN, posterior, prior)
    losses = DynRepKL(dyn=1.0, rep=0.1)(Compared(GAUSSIAN, posterior, prior))
    assert {name: loss.weight for name, loss in losses.items()} == {"dynamics": 1.0, "representation": 0.1}
    dynamics, representation = losses["dynamics"].value, losses["representation"].value
    torch.testing.assert_close(dynamics, torch.tensor([[4.0, 2.0]], dtype=torch.float64))
    torch.testing.assert_close(representation, dynamics)
    inputs = (posterior, prior)
    of_dynamics = torch.autograd.grad(dynamics.sum(), inputs, allow_unused=True, materialize_grads=True)
    of_representation = torch.autograd.grad(representation.sum(), inputs, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(of_dynamics, (torch.zeros_like(prior), to_prior))
    torch.testing.assert_close(of_representation, (to_posterior, torch.zeros_like(posterior)))


def test_free_bits_apply_to_each_step_separately() -> None:
    posterior, prior = pair(5.0, 0.25, 1.5, 0.99)
    losses = DynRepKL(free_bits=1.0)(Compared(GAUSSIAN, posterior, prior))
    expected = np.array([[5.0, 1.0, 1.5, 1.0]])
    for loss in losses.values():
        np.testing.assert_allclose(loss.value.detach().numpy(), expected, rtol=1e-12)
    (losses["dynamics"].value + losses["representation"].value).sum().backward()
    mean = posterior.detach()[0, :, 0]
    active = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(posterior.grad[0, :, 0], mean * active)
    torch.testing.assert_close(prior.grad[0, :, 0], -mean * active)
