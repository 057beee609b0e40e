"""Measures of how much the members of an ensemble disagree, in imagination as on data."""

import math
from typing import Protocol

import torch
from torch import Tensor

from dreamset.core.capabilities import MemberPredictions


class Spread(Protocol):
    """A measure of how uncertain the ensemble is about a step, in imagination as on data."""

    def __call__(self, members: MemberPredictions) -> Tensor:
        """At least zero, [...] from predictions of [K, ...]."""


class MeanDisagreement:
    """(1 / K) sum_k || m_k - m ||, m_k the members' means and m their mean (Offline DreamerV2, section 4)."""

    def __call__(self, members: MemberPredictions) -> Tensor:
        """[...]."""
        means = members.mean()  # [K, ..., Z]
        distance: Tensor = torch.linalg.vector_norm(means - means.mean(0), dim=-1)  # [K, ...]
        return distance.mean(0)


class LogProbabilitySpread:
    """Standard deviation over k of ln p_k(z) (LOMPO, Rafailov et al. 2021, with the variance; Offline DreamerV2)."""

    def __call__(self, members: MemberPredictions) -> Tensor:
        """[...]."""
        log_prob = members.log_prob()  # [K, ...]
        # the norm has a gradient (zero) where all members agree, a standard deviation has none
        distance: Tensor = torch.linalg.vector_norm(log_prob - log_prob.mean(0), dim=0)
        return distance / math.sqrt(len(log_prob))


class MixtureSpread:
    """Standard deviation of the even mixture of all members, averaged over the elements of z (Offline DreamerV2).

    By the law of total variance it is sqrt(mean_k v_k + mean_k (m_k - m)^2), so unlike the other two it counts the
    noise that all members agree on.
    """

    def __call__(self, members: MemberPredictions) -> Tensor:
        """[...]."""
        within = members.variance().mean(0)
        between = members.mean().var(0, correction=0)
        smallest = torch.finfo(within.dtype).tiny  # a root has no gradient at zero
        return (within + between).clamp_min(smallest).sqrt().mean(-1)
