"""The two-hot distribution over bins of symlog(x) and its head, compared with formulas in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.models.distributions import SymexpTwoHot, SymlogTwoHot, symexp_bins
from dreamset.models.heads import SquaredErrorHead, SymlogTwoHotHead

Array = NDArray[np.float64]
COUNT, LIMIT = 101, 10.0
BINS = np.array([-LIMIT + 0.2 * k for k in range(COUNT)])
LARGEST = np.expm1(LIMIT)


def symlog(x: float) -> float:
    return float(np.sign(x) * np.log(abs(x) + 1))


def two_hot(target: float) -> Array:
    """Weights by hand: linear between the two bins around symlog(target), all on an outermost bin beyond them."""
    weights = np.zeros(COUNT)
    y = min(max(symlog(target), -LIMIT), LIMIT)
    for k in range(COUNT):
        weights[k] = max(0.0, 1 - abs(y - BINS[k]) / 0.2)
    return weights


def raw_logits(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=(*shape, COUNT)) * 3


def log_softmax(raw: Array) -> Array:
    shifted = raw - raw.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


TARGETS = [0.0, 1e-3, -0.05, 1.0, -7.3, 123.4, -2e4, LARGEST, -LARGEST]


@pytest.mark.parametrize("target", [*TARGETS, 1e9, -1e9])
def test_log_probability_is_minus_the_cross_entropy_with_the_two_hot_symlog(target: float) -> None:
    raw = raw_logits(4)
    got = SymlogTwoHot(torch.from_numpy(raw), LIMIT).log_prob(torch.full((4,), target, dtype=torch.float64))
    np.testing.assert_allclose(got.numpy(), (two_hot(target) * log_softmax(raw)).sum(-1), rtol=1e-9)


def test_mean_is_symexp_of_the_expected_bin() -> None:
    raw = raw_logits(2, 3)
    expected = (np.exp(log_softmax(raw)) * BINS).sum(-1)
    expected = np.sign(expected) * np.expm1(np.abs(expected))
    np.testing.assert_allclose(SymlogTwoHot(torch.from_numpy(raw), LIMIT).mean.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("target", TARGETS)
def test_two_hot_weights_decode_to_their_target(target: float) -> None:
    with np.errstate(divide="ignore"):
        logits = torch.from_numpy(np.log(two_hot(target))[None])
    assert SymlogTwoHot(logits, LIMIT).mean.item() == pytest.approx(target, rel=1e-9, abs=1e-12)


def test_gradient_of_the_logits_is_target_minus_probability() -> None:
    raw = raw_logits(1)
    leaf = torch.from_numpy(raw).requires_grad_()
    SymlogTwoHot(leaf, LIMIT).log_prob(torch.tensor([33.0], dtype=torch.float64)).backward()
    np.testing.assert_allclose(leaf.grad, two_hot(33.0) - np.exp(log_softmax(raw)), rtol=1e-9, atol=1e-12)


def test_equal_probabilities_mean_exactly_zero_in_single_precision() -> None:
    assert SymlogTwoHot(torch.zeros(5, COUNT), LIMIT).mean.tolist() == [0.0] * 5


def test_log_probability_keeps_the_shape_of_the_targets_and_broadcasts_over_members() -> None:
    distribution = SymlogTwoHot(torch.from_numpy(raw_logits(4, 2, 3)), LIMIT)
    assert distribution.mean.shape == (4, 2, 3)
    target = torch.randn(2, 3, dtype=torch.float64)
    each = [SymlogTwoHot(logits, LIMIT).log_prob(target) for logits in distribution.logits]
    torch.testing.assert_close(distribution.log_prob(target), torch.stack(each))


def test_spread_predictions_lie_nearer_to_zero_than_with_symexp_bins() -> None:
    """Half of the mass at 0 and half at symexp(10): the mean in symlog units is 5, not ln(11013)."""
    logits = torch.full((COUNT,), -torch.inf, dtype=torch.float64)
    logits[[50, 100]] = 0.0
    assert SymlogTwoHot(logits, LIMIT).mean.item() == pytest.approx(np.expm1(5.0))
    bins = symexp_bins(COUNT, limit=LIMIT).double()
    assert SymexpTwoHot(logits, bins).mean.item() == pytest.approx(LARGEST / 2, rel=1e-5)


def test_heads_start_at_exactly_zero_and_learn() -> None:
    torch.manual_seed(0)
    features, target = torch.randn(8, 5), torch.linspace(-3, 40, 8)
    for head in (SymlogTwoHotHead(5, hidden=32, layers=1), SquaredErrorHead(5, hidden=32, layers=1)):
        assert head(features).mean.tolist() == [0.0] * 8
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(400):
            optimizer.zero_grad()
            (-head(features).log_prob(target).mean()).backward()
            optimizer.step()
        torch.testing.assert_close(head(features).mean, target, rtol=0.05, atol=0.2)


def test_even_number_of_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        SymlogTwoHotHead(5, hidden=4, layers=1, bins=100)
