"""Distributions with one interface: a mean and the log-probability of a target."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dreamset.models.symlog import symexp, symlog

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / math.sqrt(2 * math.pi)  # weights of the expectation under N(0, 1)


class Distribution(Protocol):
    """The output of a head or decoder; log-probabilities are summed over the event axes."""

    @property
    def mean(self) -> Tensor:
        """The expected value."""

    def log_prob(self, target: Tensor) -> Tensor:
        """Log-probability of ``target``."""


@dataclass(frozen=True, slots=True)
class UnitNormal:
    """N(mean, I) over the last ``event_axes`` axes: observations and rewards of Dreamer v1."""

    mean: Tensor
    event_axes: int = 0

    def log_prob(self, target: Tensor) -> Tensor:
        """ln N(target; mean, I), summed over the event axes."""
        value = -0.5 * (target - self.mean).square() - 0.5 * math.log(2 * math.pi)
        return value.flatten(value.ndim - self.event_axes).sum(-1) if self.event_axes else value


@dataclass(frozen=True, slots=True)
class SquaredError:
    """-sum (x - mean)^2 over the last ``event_axes`` axes: the images of Dreamer v3.

    The published loss omits the 1/2 and the constant of a unit normal, so its gradient is twice that of
    ``UnitNormal``. Up to a constant it is ln N(x; mean, I / 2).
    """

    mean: Tensor
    event_axes: int = 0

    def log_prob(self, target: Tensor) -> Tensor:
        """The negative squared error, summed over the event axes; not a normalised density."""
        value = -(target - self.mean).square()
        return value.flatten(value.ndim - self.event_axes).sum(-1) if self.event_axes else value


@dataclass(frozen=True, slots=True)
class SymlogSquaredError:
    """-sum (symlog(x) - location)^2 over the last axis: the vectors of Dreamer v3.

    This follows the published code, which omits the 1/2 of the paper's section "Robust predictions".
    """

    location: Tensor  # [..., O] in symlog units

    @property
    def mean(self) -> Tensor:
        """The prediction in the units of x."""
        return symexp(self.location)

    def log_prob(self, target: Tensor) -> Tensor:
        """The negative squared error of ``target`` [..., O] in symlog units; not a normalised density."""
        return -(symlog(target) - self.location).square().sum(-1)


@dataclass(frozen=True, slots=True)
class SymexpTwoHot:
    """A categorical distribution over fixed bins: rewards and values of Dreamer v3, "Robust predictions"."""

    logits: Tensor  # [..., K]
    bins: Tensor  # [K] ascending and antisymmetric, from ``symexp_bins``

    @property
    def mean(self) -> Tensor:
        """softmax(logits)^T bins, [...].

        Opposite bins are added first. Equal probabilities then give exactly zero; a sum from left to right would
        accumulate the rounding errors of numbers up to 5e8.
        """
        middle = self.bins.shape[0] // 2
        values = torch.softmax(self.logits, dim=-1) * self.bins  # [..., K]; the middle bin is zero
        return (values[..., :middle].flip(-1) + values[..., -middle:]).sum(-1)

    def log_prob(self, target: Tensor) -> Tensor:
        """sum_k w_k ln p_k, [...]: minus the cross-entropy with the two-hot ``target``.

        The two bins around the target share the weight, and the nearer bin gets more:
        w_k = |b_{k+1} - y| / |b_{k+1} - b_k| and w_{k+1} = |b_k - y| / |b_{k+1} - b_k|. Targets outside the range are
        clamped to the outermost bins.
        """
        target = target.clamp(self.bins[0], self.bins[-1])
        above = torch.searchsorted(self.bins, target.contiguous()).clamp_min(1)  # for bins[0] itself it would be 0
        low, high = self.bins[above - 1], self.bins[above]
        share = (target - low) / (high - low)  # weight of the upper bin
        log_probs = torch.log_softmax(self.logits, dim=-1)
        pair = log_probs.gather(-1, torch.stack([above - 1, above], dim=-1))  # [..., 2]
        return (1 - share) * pair[..., 0] + share * pair[..., 1]


def symexp_bins(count: int, *, limit: float = 20.0) -> Tensor:
    """symexp of ``count`` evenly spaced numbers from -limit to limit, exactly antisymmetric: [count].

    Raises:
        ValueError: if ``count`` is even, because zero would not be a bin.
    """
    if count % 2 == 0:
        raise ValueError(f"the number of bins must be odd, so that zero is one of them, got {count}")
    negative = symexp(torch.linspace(-limit, 0, count // 2 + 1))
    return torch.cat([negative, -negative[:-1].flip(0)])


@dataclass(frozen=True, slots=True)
class SymlogTwoHot:
    """A categorical distribution over K evenly spaced bins of symlog(x): rewards and values of TD-MPC2.

    The bins of Dreamer v3's ``SymexpTwoHot`` are spaced by symexp, so its mean is the mean of x. This mean is the
    symexp of the mean of symlog(x), which lies nearer to zero if x is spread.
    """

    logits: Tensor  # [..., K]; K is odd
    limit: float  # the outermost bins, in symlog units

    @property
    def mean(self) -> Tensor:
        """symexp(softmax(logits)^T bins), [...].

        Opposite bins are subtracted first, so that equal probabilities give exactly zero.
        """
        probs = torch.softmax(self.logits, dim=-1)
        middle = probs.shape[-1] // 2
        sides = probs[..., middle + 1 :] - probs[..., :middle].flip(-1)  # [..., middle]
        steps = torch.arange(1, middle + 1, device=probs.device, dtype=probs.dtype)
        return symexp((sides * steps).sum(-1) * (self.limit / middle))

    def log_prob(self, target: Tensor) -> Tensor:
        """sum_k w_k ln p_k, [...]: minus the cross-entropy with the two-hot symlog(``target``).

        The two bins around symlog(target) share the weight in proportion to their nearness. Targets outside the range
        are clamped to the outermost bins. One target may serve several members: logits [K, ..., bins], target [...].
        """
        last = self.logits.shape[-1] - 1
        position = (symlog(target) + self.limit) * (last / (2 * self.limit))  # in bins
        position = position.clamp(0, last)
        below = position.floor().clamp_max(last - 1)  # at the last bin the one above would not exist
        share = position - below  # weight of the upper bin
        index = below.long().expand(self.logits.shape[:-1])
        pair = torch.log_softmax(self.logits, dim=-1).gather(-1, torch.stack([index, index + 1], dim=-1))  # [..., 2]
        return (1 - share) * pair[..., 0] + share * pair[..., 1]


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """A binary event given its logit, such as the continuation of an episode."""

    logit: Tensor

    @property
    def mean(self) -> Tensor:
        """Probability of the event."""
        return torch.sigmoid(self.logit)

    def log_prob(self, target: Tensor) -> Tensor:
        """ln p(target), target in [0, 1]."""
        return -F.binary_cross_entropy_with_logits(self.logit, target.to(self.logit.dtype), reduction="none")


@dataclass(frozen=True, slots=True)
class TanhNormal:
    """a = tanh(u), u ~ N(location, scale): the policy of Dreamer v1 (section 3 and appendix A)."""

    location: Tensor  # [..., A]
    scale: Tensor  # [..., A]
    noise_kind: ClassVar[str] = "normal"

    @property
    def mode(self) -> Tensor:
        """The action of the most likely u; the density's maximum in [-1, 1] would often lie at a bound."""
        return torch.tanh(self.location)

    def noise(self, generator: torch.Generator) -> Tensor:
        """Standard normal noise for ``sample``, [..., A]."""
        like = self.location
        return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        """The reparameterised action tanh(location + scale * noise), noise ~ N(0, I)."""
        return torch.tanh(self.location + self.scale * noise)

    def sample_with_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``sample`` and its log-probability, [..., A] and [...]; precise also where tanh rounds to its bounds."""
        u = self.location + self.scale * noise
        normal = -0.5 * noise.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        return torch.tanh(u), (normal - log_tanh_slope(u)).sum(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """ln p(action), summed over the action's elements: the normal density corrected by the slope of tanh.

        With u = atanh(a), ln p(a) = ln N(u; location, scale) - ln(1 - a^2).
        """
        limit = 1 - torch.finfo(action.dtype).eps
        u = torch.atanh(action.clamp(-limit, limit))
        normal = -0.5 * ((u - self.location) / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        return (normal - log_tanh_slope(u)).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, summed over the action: ln(scale) + (1 + ln 2 pi) / 2 + E[ln(1 - tanh(u)^2)].

        The expectation has no closed form. The error of Gauss-Hermite quadrature is below 2e-4 nats up to a scale of
        2 and below 0.03 nats up to a scale of 5, where the entropy is about -7.
        """
        nodes, weights = self.location.new_tensor(_NODES), self.location.new_tensor(_WEIGHTS)
        u = self.location[..., None] + self.scale[..., None] * nodes  # [..., A, nodes]
        normal = self.scale.log() + 0.5 * (1 + math.log(2 * math.pi))
        return (normal + log_tanh_slope(u) @ weights).sum(-1)


def log_tanh_slope(u: Tensor) -> Tensor:
    """ln(1 - tanh(u)^2) = 2 (ln 2 - u - softplus(-2u)): the right side stays precise where tanh(u) is near 1."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


@dataclass(frozen=True, slots=True)
class OneHotCategorical:
    """One-hot vectors of C classes with straight-through gradients, for discrete latents and actions.

    With ``unimix`` u the probabilities are (1 - u) softmax(logits) + u / C in samples, log-probabilities, entropy and
    KL (Dreamer v3, section "World model learning"). No class then has probability zero, and every KL is finite.
    """

    logits: Tensor  # [..., C]
    unimix: float = 0.0
    noise_kind: ClassVar[str] = "gumbel"

    @property
    def probs(self) -> Tensor:
        """Probabilities [..., C], including the uniform mix."""
        probs = torch.softmax(self.logits, dim=-1)
        return (1 - self.unimix) * probs + self.unimix / self.logits.shape[-1] if self.unimix else probs

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities [..., C], finite in float32 for all logits."""
        return self.probs.log() if self.unimix else torch.log_softmax(self.logits, dim=-1)

    @property
    def mode(self) -> Tensor:
        """The most likely class, one-hot [..., C]."""
        return self._one_hot(self.logits)

    def noise(self, generator: torch.Generator) -> Tensor:
        """Gumbel noise for ``sample``, [..., C]."""
        return gumbel(self.logits.shape, generator, dtype=self.logits.dtype)

    def sample(self, noise: Tensor) -> Tensor:
        """A one-hot sample [..., C] with the straight-through gradient of the probabilities (Dreamer v2, algorithm 1).

        argmax(ln p + noise) is distributed as p if ``noise`` is standard Gumbel, so this function draws nothing.
        """
        probs = self.probs
        one_hot = self._one_hot(probs.detach().log() + noise)
        return one_hot + (probs - probs.detach())  # the parentheses keep the added value exactly zero

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p of the one-hot ``value`` [..., C], [...]."""
        return (self.log_probs * value).sum(-1)

    def entropy(self) -> Tensor:
        """-sum_c p_c ln p_c in nats, [...]."""
        return -(self.probs * self.log_probs).sum(-1)

    def kl(self, other: "OneHotCategorical") -> Tensor:
        """KL(self || other) = sum_c p_c (ln p_c - ln q_c) in nats, [...]."""
        return (self.probs * (self.log_probs - other.log_probs)).sum(-1)

    @staticmethod
    def _one_hot(scores: Tensor) -> Tensor:
        return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)


def gumbel(shape: Sequence[int], generator: torch.Generator, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard Gumbel noise, -ln(-ln u) for uniform u; ``exponential_`` takes three times as long on a CPU.

    u is below one, and the clamp replaces a rare zero, so that all noise is finite.
    """
    uniform = torch.rand(tuple(shape), generator=generator, device=generator.device, dtype=dtype)
    return uniform.clamp_min_(torch.finfo(dtype).tiny).log_().neg_().log_().neg_()


def noise_of_kind(kind: str, normal: Tensor) -> Tensor:
    """Standard normal numbers as noise of another kind, so that one source of numbers serves every distribution.

    Args:
        kind: ``normal``, ``uniform`` between 0 and 1, ``gumbel``, or ``none``.
        normal: standard normal, of any shape.
    """
    return _FROM_NORMAL[kind](normal)


def _uniform_of(normal: Tensor) -> Tensor:
    """Phi(normal), kept away from 0 and 1, which rounding reaches beyond 5 standard deviations."""
    info = torch.finfo(normal.dtype)
    uniform: Tensor = torch.special.ndtr(normal)
    return uniform.clamp(info.tiny, 1 - info.eps)


_FROM_NORMAL: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda normal: normal,  # of size zero
    "normal": lambda normal: normal,
    "uniform": _uniform_of,
    "gumbel": lambda normal: -(-_uniform_of(normal).log()).log(),
}
