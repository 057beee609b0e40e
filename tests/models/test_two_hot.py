"""The symexp two-hot distribution and its head, compared with the published formulas in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.models.distributions import SymexpTwoHot, symexp_bins
from dreamset.models.heads import SymexpTwoHotHead

Array = NDArray[np.float64]
COUNT = 255


def numpy_bins(count: int = COUNT, limit: float = 20.0) -> Array:
    even = np.linspace(-limit, limit, count)
    return np.sign(even) * (np.exp(np.abs(even)) - 1)


def two_hot(target: float, bins: Array) -> Array:
    """Weights by hand: all on the target's bin, more on the nearer of two bins, or all on the outermost bin."""
    weights = np.zeros(len(bins))
    if target <= bins[0] or target >= bins[-1]:
        weights[0 if target <= bins[0] else -1] = 1
        return weights
    k = max(i for i in range(len(bins)) if bins[i] <= target)
    gap = abs(bins[k + 1] - bins[k])
    weights[k] = abs(bins[k + 1] - target) / gap
    weights[k + 1] = abs(bins[k] - target) / gap
    return weights


def logits(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(*shape, COUNT)) * 3


def distribution(raw: Array) -> SymexpTwoHot:
    return SymexpTwoHot(torch.from_numpy(raw), torch.from_numpy(numpy_bins()))


def log_softmax(raw: Array) -> Array:
    shifted = raw - raw.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_bins_are_symexp_spaced_and_exactly_antisymmetric() -> None:
    bins = symexp_bins(COUNT)
    np.testing.assert_allclose(bins.numpy(), numpy_bins(), rtol=2e-5)  # symexp(20) amplifies the rounding error of 20
    assert torch.equal(bins, -bins.flip(0))
    assert bins[COUNT // 2] == 0
    assert (bins.diff() > 0).all()


def test_symexp_bins_refuses_an_even_number() -> None:
    with pytest.raises(ValueError, match="odd"):
        symexp_bins(4)


BETWEEN = [0.0, 1e-3, -0.05, 1.0, -7.3, 123.4, -4e8]
ON_A_BIN = [numpy_bins()[k] for k in (1, 60, 127, 128, 253)]
OUTSIDE = [numpy_bins()[0], numpy_bins()[-1], 1e12, -1e12]


@pytest.mark.parametrize("target", [*BETWEEN, *ON_A_BIN, *OUTSIDE])
def test_log_probability_is_minus_the_cross_entropy_with_the_two_hot_target(target: float) -> None:
    raw = logits(4)
    expected = (two_hot(target, numpy_bins()) * log_softmax(raw)).sum(-1)
    got = distribution(raw).log_prob(torch.full((4,), target, dtype=torch.float64))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10)


def test_two_hot_weights_have_the_target_as_mean() -> None:
    """The weighted mean of the bins is the target, so that the best prediction is the mean of the targets."""
    for target in BETWEEN:
        assert two_hot(target, numpy_bins()) @ numpy_bins() == pytest.approx(target, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("target", [0.4, -2.5, 33.0])
def test_gradient_of_the_logits_is_target_minus_probability(target: float) -> None:
    raw = logits(1)
    leaf = torch.from_numpy(raw).requires_grad_()
    SymexpTwoHot(leaf, torch.from_numpy(numpy_bins())).log_prob(torch.tensor([target], dtype=torch.float64)).backward()
    expected = two_hot(target, numpy_bins()) - np.exp(log_softmax(raw))
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_mean_is_the_expected_bin() -> None:
    raw = logits(2, 3)
    expected = (np.exp(log_softmax(raw)) * numpy_bins()).sum(-1)
    np.testing.assert_allclose(distribution(raw).mean.numpy(), expected, rtol=1e-9)


def test_equal_probabilities_give_exactly_zero_in_single_precision() -> None:
    bins = symexp_bins(COUNT)
    assert SymexpTwoHot(torch.zeros(5, COUNT), bins).mean.tolist() == [0.0] * 5
    naive = np.add.accumulate((torch.softmax(torch.zeros(COUNT), 0) * bins).numpy())[-1]  # from left to right
    assert abs(naive) > 0.1


def test_log_probability_keeps_the_shape_of_the_targets() -> None:
    got = distribution(logits(2, 3)).log_prob(torch.zeros(3, 2, dtype=torch.float64).t())
    assert got.shape == (2, 3)


def test_two_hot_head_starts_at_zero_and_learns() -> None:
    torch.manual_seed(0)
    head = SymexpTwoHotHead(5, hidden=16, layers=1)
    features, target = torch.randn(8, 5), torch.linspace(-3, 40, 8)
    assert head(features).mean.tolist() == [0.0] * 8
    torch.testing.assert_close(head(features).log_prob(target), torch.full((8,), -np.log(COUNT)))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        (-head(features).log_prob(target).mean()).backward()
        optimizer.step()
    torch.testing.assert_close(head(features).mean, target, rtol=0.05, atol=0.1)
