"""Latents, the distributions of the stochastic state; one object defines sampling, KL divergence and entropy."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dreamset.models.distributions import OneHotCategorical, gumbel


class Latent(Protocol):
    """A family of distributions over z, parametrised by ``parameter_size`` raw network outputs."""

    size: int  # Z
    parameter_size: int  # P
    noise_distribution: str  # the distribution that ``noise`` samples, as an exported policy names it: normal or gumbel

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Random numbers for ``sample``, for a batch of ``shape``."""

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """A differentiable sample z [..., Z]."""

    def mode(self, parameters: Tensor) -> Tensor:
        """The most likely z [..., Z]."""

    def mean(self, parameters: Tensor) -> Tensor:
        """E[z], [..., Z]."""

    def variance(self, parameters: Tensor) -> Tensor:
        """Var[z] of each element, [..., Z]."""

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """ln p(value) of a sample [..., Z] in nats, [...]."""

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL(left || right) in nats, [...]."""

    def entropy(self, parameters: Tensor) -> Tensor:
        """Entropy in nats, [...]."""


class GaussianLatent:
    """Diagonal Gaussian with std = softplus(raw) + min_std (Dreamer v1, appendix A)."""

    noise_distribution = "normal"

    def __init__(self, size: int, *, min_std: float = 0.1) -> None:
        self.size = size
        self.parameter_size = 2 * size
        self.min_std = min_std

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Standard normal noise [*shape, Z]."""
        return torch.randn(*shape, self.size, generator=generator, device=generator.device)

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """mean + std * noise."""
        mean, std = self.mean_and_std(parameters)
        return mean + std * noise

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean."""
        return parameters[..., : self.size]

    def mean(self, parameters: Tensor) -> Tensor:
        """The mean, which is also the mode."""
        return self.mode(parameters)

    def variance(self, parameters: Tensor) -> Tensor:
        """std^2."""
        return self.mean_and_std(parameters)[1].square()

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """-sum_i ((z_i - m_i) / s_i)^2 / 2 + ln s_i + ln(2 pi) / 2."""
        mean, std = self.mean_and_std(parameters)
        return -(0.5 * ((value - mean) / std).square() + std.log() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """sum_i ln(s_r / s_l) + (s_l^2 + (m_l - m_r)^2) / (2 s_r^2) - 1/2."""
        mean_l, std_l = self.mean_and_std(left)
        mean_r, std_r = self.mean_and_std(right)
        ratio = (std_l / std_r).square()
        return 0.5 * (ratio + ((mean_l - mean_r) / std_r).square() - 1 - ratio.log()).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """sum_i ln s_i + (1 + ln 2 pi) / 2."""
        _, std = self.mean_and_std(parameters)
        return (std.log() + 0.5 * (1 + math.log(2 * math.pi))).sum(-1)

    def mean_and_std(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Both [..., Z]."""
        mean, raw = parameters.chunk(2, dim=-1)
        return mean, F.softplus(raw) + self.min_std


class CategoricalLatent:
    """A vector of one-hot variables with straight-through gradients (Dreamer v2, section 2.1; Dreamer v3).

    The parameters are the concatenated logits of all variables: [..., variables * classes]. z has the same layout.
    With ``unimix``, sampling, KL and entropy use the same mix with the uniform distribution.
    """

    noise_distribution = "gumbel"

    def __init__(self, variables: int, classes: int, *, unimix: float = 0.0) -> None:
        self.size = variables * classes
        self.parameter_size = self.size
        self.variables = variables
        self.unimix = unimix

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Standard Gumbel noise [*shape, Z]."""
        return gumbel((*shape, self.size), generator)

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """One-hot samples with the straight-through gradient of the probabilities."""
        return self.distribution(parameters).sample(self._variables(noise)).flatten(-2)

    def mode(self, parameters: Tensor) -> Tensor:
        """The most likely class of each variable, one-hot."""
        return self.distribution(parameters).mode.flatten(-2)

    def mean(self, parameters: Tensor) -> Tensor:
        """The probabilities."""
        return self.distribution(parameters).probs.flatten(-2)

    def variance(self, parameters: Tensor) -> Tensor:
        """p (1 - p)."""
        probability = self.mean(parameters)
        return probability * (1 - probability)

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """sum over variables of ln p of the sampled class."""
        return self.distribution(parameters).log_prob(self._variables(value)).sum(-1)

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """sum over variables and classes of p_l (ln p_l - ln p_r)."""
        return self.distribution(left).kl(self.distribution(right)).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """-sum over variables and classes of p ln p."""
        return self.distribution(parameters).entropy().sum(-1)

    def distribution(self, parameters: Tensor) -> OneHotCategorical:
        """The distribution of all variables, [..., variables, classes]."""
        return OneHotCategorical(self._variables(parameters), self.unimix)

    def _variables(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:-1], self.variables, -1)
