"""The Gaussian latent, compared with closed forms in NumPy and with its own samples."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.models.recurrent.latents import GaussianLatent

Array = NDArray[np.float64]
MIN_STD = 0.1


def parameters(seed: int, *shape: int, size: int = 3) -> Array:
    return np.random.default_rng(seed).normal(size=(*shape, 2 * size))


def mean_and_std(raw: Array) -> tuple[Array, Array]:
    mean, raw_std = np.split(raw, 2, axis=-1)
    return mean, np.logaddexp(0, raw_std) + MIN_STD


def numpy_kl(left: Array, right: Array) -> Array:
    (m_l, s_l), (m_r, s_r) = mean_and_std(left), mean_and_std(right)
    return (np.log(s_r / s_l) + (s_l**2 + (m_l - m_r) ** 2) / (2 * s_r**2) - 0.5).sum(axis=-1)


def kl(left: Array, right: Array) -> Array:
    return (
        GaussianLatent(left.shape[-1] // 2, min_std=MIN_STD).kl(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    )


def test_kl_equals_the_closed_form() -> None:
    left, right = parameters(0, 4, 5), parameters(1, 4, 5)
    np.testing.assert_allclose(kl(left, right), numpy_kl(left, right), rtol=1e-12)
    assert not np.allclose(kl(left, right), kl(right, left))


def test_kl_of_a_distribution_to_itself_is_zero() -> None:
    left = parameters(0, 4, 5)
    np.testing.assert_allclose(kl(left, left), 0, atol=1e-14)


def test_kl_equals_the_mean_log_ratio_of_samples() -> None:
    left, right = parameters(2, size=2), parameters(3, size=2)
    latent = GaussianLatent(2, min_std=MIN_STD)
    noise = torch.randn(200_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = latent.sample(torch.from_numpy(left), noise).numpy()

    def log_density(raw: Array) -> Array:
        mean, std = mean_and_std(raw)
        return (-0.5 * ((z - mean) / std) ** 2 - np.log(std)).sum(axis=-1)

    assert kl(left, right) == pytest.approx((log_density(left) - log_density(right)).mean(), rel=0.02)


def test_entropy_equals_the_closed_form() -> None:
    raw = parameters(0, 4, 5)
    _, std = mean_and_std(raw)
    expected = (np.log(std) + 0.5 * (1 + np.log(2 * np.pi))).sum(axis=-1)
    got = GaussianLatent(3, min_std=MIN_STD).entropy(torch.from_numpy(raw))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_moments_and_density_equal_the_closed_forms() -> None:
    raw, value = parameters(0, 4, 5), np.random.default_rng(1).normal(size=(4, 5, 3))
    mean, std = mean_and_std(raw)
    latent = GaussianLatent(3, min_std=MIN_STD)
    np.testing.assert_allclose(latent.mean(torch.from_numpy(raw)).numpy(), mean, rtol=0)
    np.testing.assert_allclose(latent.variance(torch.from_numpy(raw)).numpy(), std**2, rtol=1e-12)
    expected = np.log(np.exp(-((value - mean) ** 2) / (2 * std**2)) / np.sqrt(2 * np.pi * std**2)).sum(axis=-1)
    got = latent.log_prob(torch.from_numpy(raw), torch.from_numpy(value))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)


def test_sample_is_mean_plus_std_times_noise_with_gradients() -> None:
    raw = parameters(0, 6)
    mean, std = mean_and_std(raw)
    noise = np.random.default_rng(1).normal(size=(6, 3))
    leaf = torch.from_numpy(raw).requires_grad_()
    latent = GaussianLatent(3, min_std=MIN_STD)
    z = latent.sample(leaf, torch.from_numpy(noise))
    np.testing.assert_allclose(z.detach().numpy(), mean + std * noise, rtol=1e-13)
    np.testing.assert_allclose(latent.mode(leaf).detach().numpy(), mean, rtol=0)
    z.sum().backward()
    slope = 1 / (1 + np.exp(-raw[:, 3:]))  # of the softplus
    np.testing.assert_allclose(leaf.grad.numpy(), np.concatenate([np.ones((6, 3)), slope * noise], axis=1), rtol=1e-12)


def test_std_is_never_below_its_minimum() -> None:
    raw = torch.full((2,), -200.0, dtype=torch.float64)
    _, std = GaussianLatent(1, min_std=0.25).mean_and_std(raw)
    assert float(std) == pytest.approx(0.25, rel=1e-12)


def test_noise_is_standard_normal_and_repeats_with_the_seed() -> None:
    latent = GaussianLatent(4)

    def draw(seed: int) -> torch.Tensor:
        return latent.noise((300, 50), torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert float(draw(1).mean()) == pytest.approx(0, abs=0.02)
    assert float(draw(1).std()) == pytest.approx(1, abs=0.02)
