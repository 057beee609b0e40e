"""Spreads: measures of the disagreement between an ensemble's members."""

import math
from typing import Protocol

import torch
from torch import Tensor

from dreamset.core.capabilities import MemberPredictions
from dreamset.core.errors import UserError


class Spread(Protocol):
    """A measure of the ensemble's uncertainty about a step, imagined or recorded."""

    def __call__(self, members: MemberPredictions) -> Tensor:
        """The spread, at least zero: [...] from predictions [K, ...]."""


class MeanDisagreement:
    """(1 / K) sum_k || m_k - m ||, where m is the mean of the members' means m_k (Offline DreamerV2, section 4)."""

    def __call__(self, members: MemberPredictions) -> Tensor:
        """[...]."""
        means = members.mean()  # [K, ..., Z]
        distance: Tensor = torch.linalg.vector_norm(means - means.mean(0), dim=-1)  # [K, ...]
        return distance.mean(0)


class Variance:
    """(1 / D) sum_d 1 / (K - 1) sum_k (m_kd - m_d)^2: the bonus of Plan2Explore (Sekar et al. 2020, equations 3 to 5).

    It is the unbiased variance of the members' means, averaged over their elements.
    """

    def __call__(self, members: MemberPredictions) -> Tensor:
        """[...].

        Raises:
            UserError: if the ensemble has one member.
        """
        means = members.mean()  # [K, ..., D]
        if len(means) < 2:
            raise UserError(
                "world_model.ensemble.members is 1; a disagreement needs two members or more; train the world model "
                "again with 2 or more"
            )
        return means.var(0).mean(-1)


class LogProbabilitySpread:
    """Standard deviation over k of ln p_k(z) (LOMPO, Rafailov et al. 2021, with the variance; Offline DreamerV2)."""

    def __call__(self, members: MemberPredictions) -> Tensor:
        """[...]."""
        log_prob = members.log_prob()  # [K, ...]
        # where all members agree, the norm has a zero gradient but a standard deviation has none
        distance: Tensor = torch.linalg.vector_norm(log_prob - log_prob.mean(0), dim=0)
        return distance / math.sqrt(len(log_prob))


class MixtureSpread:
    """Standard deviation of the uniform mixture of all members, averaged over the elements of z (Offline DreamerV2).

    By the law of total variance it is sqrt(mean_k v_k + mean_k (m_k - m)^2). Unlike the other two measures, it
    includes the noise that all members predict.
    """

    def __call__(self, members: MemberPredictions) -> Tensor:
        """[...]."""
        within = members.variance().mean(0)
        between = members.mean().var(0, correction=0)
        smallest = torch.finfo(within.dtype).tiny  # the root's gradient at zero is infinite
        return (within + between).clamp_min(smallest).sqrt().mean(-1)
