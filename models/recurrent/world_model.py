"""The world model: encoder, dynamics and the heads that every objective trains alike."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dreamset.core.records import ImaginedTrajectory, LatentState, Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.models.distributions import Distribution
from dreamset.models.encoders import Encoder
from dreamset.models.recurrent.divergences import Divergence
from dreamset.models.recurrent.ensemble import PriorEnsemble
from dreamset.models.recurrent.rssm import RSSM, Policy

Head = Callable[[Tensor], Distribution]


class WorldModel(nn.Module):
    """p(s_t | s_{t-1}, a_{t-1}), p(r_t | s_t) and, if asked for, the probability that the episode goes on.

    What makes the state meaningful besides these is the representation objective's business, outside this class.

    Args:
        spec: what the data offer.
        encoder: makes the encoder of the observations.
        dynamics: makes the recurrent state-space model from E and A.
        reward_head: makes p(r | s) from F.
        continue_head: makes p(c | s) from F; None where episodes never end before their time.
        divergence: what pulls posterior and prior together.
        reward_weight: factor of the reward's loss.
        continue_weight: factor of the continuation's loss.
        ensemble: makes further priors that tell how certain the model is; none unless given.
        continue_discount: gamma if the head is to predict gamma (1 - terminal) as a soft target, as Dreamer v2 and v3
            do, instead of 1 - terminal; ``continuation`` divides by it again.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        encoder: Callable[[DataSpec], Encoder],
        dynamics: Callable[[int, int], RSSM],
        reward_head: Callable[[int], Head],
        continue_head: Callable[[int], Head] | None,
        divergence: Divergence,
        reward_weight: float = 1.0,
        continue_weight: float = 1.0,
        continue_discount: float = 1.0,
        ensemble: Callable[[RSSM], PriorEnsemble] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder(spec)
        self.dynamics = dynamics(self.encoder.embedding_size, spec.action.size)
        self.reward_head = reward_head(self.feature_size)
        self.continue_head = None if continue_head is None else continue_head(self.feature_size)
        self.divergence = divergence
        self.reward_weight = reward_weight
        self.continue_weight = continue_weight
        self.continue_discount = continue_discount
        self.ensemble = None if ensemble is None else ensemble(self.dynamics)

    @property
    def feature_size(self) -> int:
        """F, the length of the features that heads and behaviours read."""
        return self.dynamics.feature_size

    @property
    def embedding_size(self) -> int:
        """E, the length of the encoder's output."""
        return self.encoder.embedding_size

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: LatentState | None = None) -> Rollout:
        """Posterior and prior states of recorded sequences."""
        action = self.spec.action.normalize(batch.action)
        return self.dynamics.observe(self.encoder(batch.observations), action, batch.is_first, generator, start)

    def imagine(
        self, start: LatentState, policy: Policy, *, horizon: int, generator: torch.Generator
    ) -> ImaginedTrajectory:
        """What would happen under ``policy`` from ``start`` [N, ...]."""
        return self.dynamics.imagine(start, policy, horizon=horizon, generator=generator)

    def predict(self, start: LatentState, action: Tensor, generator: torch.Generator) -> LatentState:
        """Open-loop states [B, K, ...] under recorded actions [B, K, A] in the environment's units."""
        return self.dynamics.predict(start, self.spec.action.normalize(action), generator)

    def reward(self, features: Tensor) -> Tensor:
        """Expected reward on arrival, [...]."""
        return self.reward_head(features).mean

    def continuation(self, features: Tensor) -> Tensor:
        """Probability that the episode goes on, [...]; one where no head was asked for.

        A behaviour whose own discount is ``continue_discount`` multiplies both to exactly what the head predicts.
        """
        if self.continue_head is None:
            return torch.ones_like(features[..., 0])
        return self.continue_head(features).mean / self.continue_discount

    def losses(self, rollout: Rollout, batch: SequenceBatch) -> dict[str, Loss]:
        """-ln p(r_t | s_t), -ln p(c_t | s_t) where there is a head, and the KL terms: what all objectives share.

        An ensemble adds its own, which moves nothing but its members.
        """
        result = self.divergence(self.dynamics.latent, rollout.posterior_parameters, rollout.prior_parameters)
        result["reward"] = Loss(-self.reward_head(rollout.features).log_prob(batch.reward), self.reward_weight)
        if self.continue_head is not None:
            target = self.continue_discount * (~batch.is_terminal)
            result["continue"] = Loss(-self.continue_head(rollout.features).log_prob(target), self.continue_weight)
        if self.ensemble is not None:
            result["ensemble"] = self.ensemble.loss(self.dynamics.latent, rollout, batch.row)
        return result
