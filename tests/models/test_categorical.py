"""The one-hot categorical distribution and latent, compared with NumPy and with their own samples."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.models.distributions import OneHotCategorical, gumbel
from dreamset.models.recurrent.latents import CategoricalLatent
from tests.builders import seeded

Array = NDArray[np.float64]
VARIABLES, CLASSES = 3, 4

every_mix = pytest.mark.parametrize("unimix", [0.0, 0.01, 0.3])


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape) * 2


def numpy_probs(logits: Array, unimix: float) -> Array:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return (1 - unimix) * weights / weights.sum(-1, keepdims=True) + unimix / logits.shape[-1]


def numpy_kl(left: Array, right: Array, unimix: float) -> Array:
    p, q = (numpy_probs(x.reshape(*x.shape[:-1], VARIABLES, CLASSES), unimix) for x in (left, right))
    return (p * np.log(p / q)).sum((-2, -1))


@every_mix
def test_log_probability_and_entropy_of_the_mixture_match_numpy(unimix: float) -> None:
    logits = draw(5, CLASSES)
    distribution = OneHotCategorical(torch.from_numpy(logits), unimix)
    probs = numpy_probs(logits, unimix)
    choice = np.eye(CLASSES)[[0, 1, 2, 3, 0]]
    np.testing.assert_allclose(distribution.probs.numpy(), probs, rtol=1e-12)
    got = distribution.log_prob(torch.from_numpy(choice))
    np.testing.assert_allclose(got.numpy(), np.log((probs * choice).sum(-1)), rtol=1e-12)
    np.testing.assert_allclose(distribution.entropy().numpy(), -(probs * np.log(probs)).sum(-1), rtol=1e-12)


@every_mix
def test_moments_and_density_of_the_latent_match_numpy(unimix: float) -> None:
    logits = draw(5, VARIABLES * CLASSES)
    latent = CategoricalLatent(VARIABLES, CLASSES, unimix=unimix)
    probs = numpy_probs(logits.reshape(5, VARIABLES, CLASSES), unimix)
    one_hot = np.eye(CLASSES)[np.random.default_rng(1).integers(CLASSES, size=(5, VARIABLES))]
    raw = torch.from_numpy(logits)
    np.testing.assert_allclose(latent.mean(raw).numpy(), probs.reshape(5, -1), rtol=1e-12)
    np.testing.assert_allclose(latent.variance(raw).numpy(), (probs - probs**2).reshape(5, -1), rtol=1e-9)
    got = latent.log_prob(raw, torch.from_numpy(one_hot.reshape(5, -1)))
    np.testing.assert_allclose(got.numpy(), np.log((probs * one_hot).sum(-1)).sum(-1), rtol=1e-12)


@every_mix
def test_samples_are_one_hot_and_follow_the_probabilities(unimix: float) -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, -6.0]).expand(200_000, CLASSES)
    distribution = OneHotCategorical(logits, unimix)
    sample = distribution.sample(distribution.noise(seeded()))
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    assert (sample.sum(-1) == 1).all()
    expected = numpy_probs(logits[:1].double().numpy(), unimix)[0]
    np.testing.assert_allclose(sample.mean(0).numpy(), expected, atol=0.004)


@every_mix
def test_samples_have_the_straight_through_gradient_of_the_probabilities(unimix: float) -> None:
    logits, weight = torch.from_numpy(draw(6, CLASSES)), torch.from_numpy(draw(6, CLASSES, seed=1))
    straight, soft = (logits.clone().requires_grad_() for _ in range(2))
    noise = gumbel((6, CLASSES), seeded(), dtype=torch.float64)
    sample = OneHotCategorical(straight, unimix).sample(noise)
    (sample * weight).sum().backward()
    (((1 - unimix) * torch.softmax(soft, -1) + unimix / CLASSES) * weight).sum().backward()
    torch.testing.assert_close(straight.grad, soft.grad, rtol=1e-12, atol=1e-14)
    assert straight.grad.abs().max() > 0.01
    assert set(sample.detach().unique().tolist()) == {0.0, 1.0}


def test_mode_is_the_most_likely_class() -> None:
    mode = OneHotCategorical(torch.tensor([[0.0, 3.0, 1.0], [5.0, -1.0, 4.0]]), 0.5).mode
    assert mode.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_large_logits_give_finite_values_and_gradients_in_single_precision(unimix: float) -> None:
    left = torch.tensor([300.0, -300.0, 0.0], requires_grad=True)
    right = torch.tensor([-300.0, 300.0, 0.0], requires_grad=True)
    p, q = OneHotCategorical(left, unimix), OneHotCategorical(right, unimix)
    values = torch.stack([p.kl(q), p.entropy(), p.log_prob(torch.tensor([0.0, 1.0, 0.0]))])
    assert torch.isfinite(values).all()
    values.sum().backward()
    assert torch.isfinite(left.grad).all()
    assert torch.isfinite(right.grad).all()
    most, least = 1 - unimix * 2 / 3, unimix / 3
    expected = 600.0 if unimix == 0 else (most - least) * np.log(most / least)
    assert p.kl(q).item() == pytest.approx(expected, rel=1e-5)


@every_mix
def test_kl_of_the_latent_sums_over_its_variables(unimix: float) -> None:
    left, right = draw(2, 5, VARIABLES * CLASSES), draw(2, 5, VARIABLES * CLASSES, seed=1)
    latent = CategoricalLatent(VARIABLES, CLASSES, unimix=unimix)
    got = latent.kl(torch.from_numpy(left), torch.from_numpy(right))
    np.testing.assert_allclose(got.numpy(), numpy_kl(left, right, unimix), rtol=1e-10)
    assert not np.allclose(got.numpy(), numpy_kl(right, left, unimix))
    np.testing.assert_allclose(latent.kl(torch.from_numpy(left), torch.from_numpy(left)).numpy(), 0, atol=1e-14)


@every_mix
def test_entropy_of_the_latent_sums_over_its_variables(unimix: float) -> None:
    raw = draw(2, VARIABLES * CLASSES)
    probs = numpy_probs(raw.reshape(2, VARIABLES, CLASSES), unimix)
    got = CategoricalLatent(VARIABLES, CLASSES, unimix=unimix).entropy(torch.from_numpy(raw))
    np.testing.assert_allclose(got.numpy(), -(probs * np.log(probs)).sum((-2, -1)), rtol=1e-12)


def test_uniform_mix_bounds_the_kl_of_certain_latents() -> None:
    certain = torch.tensor([[1000.0, 0, 0, 0] * VARIABLES])
    other = torch.tensor([[0, 1000.0, 0, 0] * VARIABLES])
    bound = VARIABLES * np.log((1 - 0.01 + 0.01 / CLASSES) / (0.01 / CLASSES))
    assert float(CategoricalLatent(VARIABLES, CLASSES, unimix=0.01).kl(certain, other)) < bound
    assert float(CategoricalLatent(VARIABLES, CLASSES).kl(certain, other)) == pytest.approx(3000.0)


def test_latent_samples_one_class_per_variable_with_independent_noise() -> None:
    latent = CategoricalLatent(VARIABLES, CLASSES)
    raw = draw(7, VARIABLES * CLASSES)
    noise = latent.noise((7,), seeded())
    z = latent.sample(torch.from_numpy(raw), noise).numpy()
    scores = (raw + noise.numpy()).reshape(7, VARIABLES, CLASSES)
    np.testing.assert_allclose(z, np.eye(CLASSES)[scores.argmax(-1)].reshape(7, -1))
    mode = latent.mode(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(mode, np.eye(CLASSES)[raw.reshape(7, VARIABLES, CLASSES).argmax(-1)].reshape(7, -1))
    assert latent.size == latent.parameter_size == VARIABLES * CLASSES


def test_noise_is_standard_gumbel_and_repeats_with_the_seed() -> None:
    latent = CategoricalLatent(2, 4)
    noise = latent.noise((200, 100), seeded(1))
    assert noise.shape == (200, 100, 8)
    assert torch.equal(noise, latent.noise((200, 100), seeded(1)))
    assert not torch.equal(noise, latent.noise((200, 100), seeded(2)))
    assert torch.isfinite(noise).all()
    assert float(noise.mean()) == pytest.approx(np.euler_gamma, abs=0.01)
    assert float(noise.var()) == pytest.approx(np.pi**2 / 6, abs=0.03)
