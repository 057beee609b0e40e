"""The recurrent world model: encoder, RSSM and the heads that every objective trains alike."""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.core.states import map_state
from dreamset.models.distributions import Distribution
from dreamset.models.encoders import Encoder
from dreamset.models.recurrent.divergences import Divergence
from dreamset.models.recurrent.ensemble import PriorEnsemble, PriorPredictions
from dreamset.models.recurrent.rssm import RSSM, Distributions, RecurrentState

COLLAPSED = 0.01  # nats per step that observations add; ten times more stay where a model learned next to nothing

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

    headline = "kl"

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

    @property
    def predicts_ends(self) -> bool:
        """Whether there is a head for the continuation."""
        return self.continue_head is not None

    @property
    def noise_distribution(self) -> str:
        """What the draws of z are made of."""
        return self.dynamics.latent.noise_distribution

    def initial(self, count: int) -> RecurrentState:
        """The state before any observation: zeros."""
        return self.dynamics.initial(count)

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """The randomness of as many draws of z, [*shape, Z]."""
        return self.dynamics.noise(shape, generator)

    def features(self, state: RecurrentState) -> Tensor:
        """What heads, probes and behaviours read: [..., F]."""
        return self.dynamics.features(state)

    def observe(
        self, batch: SequenceBatch, generator: torch.Generator, start: RecurrentState | None = None
    ) -> Rollout[RecurrentState]:
        """Posterior states of recorded sequences; the details are ``Distributions``."""
        action = self.spec.action.normalize(batch.action)
        return self.dynamics.observe(self.encoder(batch.observations), action, batch.is_first, generator, start)

    def filter(
        self,
        state: RecurrentState,
        action: Tensor,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,
    ) -> RecurrentState:
        """The posterior's draw of one more row; ``action`` is in the environment's units."""
        forget = is_first[:, None]
        action = self.spec.action.normalize(action).masked_fill(forget, 0)
        before = map_state(lambda value: value.masked_fill(forget, 0), state)
        return self.dynamics.filter(before, action, self.encoder(observations), noise)

    def step(self, state: RecurrentState, action: Tensor, noise: Tensor) -> RecurrentState:
        """The prior's draw after ``action`` [N, A] in [-1, 1]."""
        return self.dynamics.step(state, action, noise)

    def reward(self, trajectory: ImaginedTrajectory[RecurrentState]) -> Tensor:
        """E[r | s] on arrival, [H + 1, N]."""
        return self.reward_head(trajectory.features).mean

    def continuation(self, trajectory: ImaginedTrajectory[RecurrentState]) -> Tensor:
        """Probability that the episode goes on, [H + 1, N]; one where no head was asked for.

        A behaviour whose own discount is ``continue_discount`` multiplies both to exactly what the head predicts.
        """
        if self.continue_head is None:
            return torch.ones_like(trajectory.features[..., 0])
        return self.continue_head(trajectory.features).mean / self.continue_discount

    def members(self, trajectory: ImaginedTrajectory[RecurrentState]) -> PriorPredictions:
        """What the ensemble's priors predict of every row's z.

        Raises:
            UserError: if there is no ensemble.
        """
        if self.ensemble is None:
            raise UserError(
                "the world model was trained without an ensemble, so nothing says how certain it is; add "
                "world_model/ensemble=priors and train it again, or take reward=predicted"
            )
        state = self.dynamics.state_of(trajectory.features)
        return PriorPredictions(self.dynamics.latent, self.ensemble(state.deterministic), state.stochastic)

    def parts(self) -> Mapping[str, nn.Module | None]:
        """What learns at a rate of its own."""
        assert isinstance(self.reward_head, nn.Module)
        assert self.continue_head is None or isinstance(self.continue_head, nn.Module)
        return {
            "encoder": self.encoder,
            "dynamics": self.dynamics,
            "reward_head": self.reward_head,
            "continue_head": self.continue_head,
            "ensemble": self.ensemble,
        }

    def watchers(self) -> Sequence[str]:
        """The ensemble: a model is the same with it as without."""
        return ("ensemble",)

    def losses(self, rollout: Rollout[RecurrentState], batch: SequenceBatch) -> dict[str, Loss]:
        """-ln p(r_t | s_t), -ln p(c_t | s_t) where there is a head, and the KL terms: what all objectives share.

        An ensemble adds its own, which moves nothing but its members.
        """
        found = distributions(rollout)
        result = self.divergence(self.dynamics.latent, found.posterior, found.prior)
        result["reward"] = Loss(-self.reward_head(rollout.features).log_prob(batch.reward), self.reward_weight)
        if self.continue_head is not None:
            target = self.continue_discount * (~batch.is_terminal)
            result["continue"] = Loss(-self.continue_head(rollout.features).log_prob(target), self.continue_weight)
        if self.ensemble is not None:
            latent = self.dynamics.latent
            result["ensemble"] = self.ensemble.loss(latent, rollout.states, found.posterior, batch.row)
        return result

    def figures(
        self,
        rollout: Rollout[RecurrentState],
        batch: SequenceBatch,  # noqa: ARG002 - other models' figures look at it
    ) -> dict[str, Tensor]:
        """``kl``: KL(posterior || prior) in nats per step, what observations add to the prior."""
        found = distributions(rollout)
        return {"kl": self.dynamics.latent.kl(found.posterior, found.prior).mean()}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """Posterior collapse, which no later stage would explain."""
        if figures["kl"] >= COLLAPSED:
            return []
        return [
            f"posterior collapse: observations add only {figures['kl']:.1e} nats per step to the prior "
            "(validation/kl); unless the data hold no surprises, the state ignores them: train again with a lower "
            "world_model_training.optimizer.lr, or a smaller weight of the divergence (world_model.divergence)"
        ]

    def for_acting(self) -> "WorldModel":
        """A copy without prior, heads and ensemble: what ``filter`` and ``features`` need."""
        pruned = copy.deepcopy(self)
        pruned.dynamics.prior_head = nn.Sequential()
        pruned.reward_head = nn.Sequential()  # nobody asks it
        pruned.continue_head = pruned.ensemble = None
        return pruned


def distributions(rollout: Rollout[RecurrentState]) -> Distributions:
    """The details of this model's own rollouts."""
    assert isinstance(rollout.details, Distributions)
    return rollout.details
