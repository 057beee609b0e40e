"""The recurrent world model: encoder, RSSM and the heads that every objective trains in the same way."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dreamset.core.capabilities import MemberPredictions
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.core.states import map_state
from dreamset.models.distributions import Distribution
from dreamset.models.encoders import Encoder
from dreamset.models.recurrent.divergences import Compared, Divergence
from dreamset.models.recurrent.ensemble import Ensemble
from dreamset.models.recurrent.rssm import RSSM, RecurrentState, distributions

COLLAPSED = 0.01  # nats per step, KL(posterior || prior); ten times more remain in a model that learned almost nothing

Head = Callable[[Tensor], Distribution]


class WorldModel(nn.Module):
    """p(s_t | s_{t-1}, a_{t-1}), p(r_t | s_t) and, with a continue head, the probability that the episode continues.

    The representation objective, which also shapes the state, is outside this class.

    Args:
        spec: the data's specification.
        encoder: constructs the encoder of the observations.
        dynamics: constructs the RSSM from E and A.
        reward_head: constructs p(r | s) from F.
        continue_head: constructs p(c | s) from F; None if episodes end only by a time limit.
        divergence: the KL loss between posterior and prior.
        reward_weight: weight of the reward loss.
        reward_gradient: whether the reward loss shapes the states; without, it trains only its head, as in exploration
            without a task.
        continue_weight: weight of the continuation loss.
        ensemble: constructs an ensemble that measures the model's uncertainty from the RSSM; by default there is none.
        continue_discount: gamma; the head's soft target is gamma (1 - terminal), as in Dreamer v2 and v3, and
            ``continuation`` divides by gamma again. With 1 the target is 1 - terminal.
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
        reward_gradient: bool = True,
        continue_weight: float = 1.0,
        continue_discount: float = 1.0,
        ensemble: Callable[[RSSM], Ensemble] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder(spec)
        self.dynamics = dynamics(self.encoder.embedding_size, spec.action.size)
        self.reward_head = reward_head(self.feature_size)
        self.continue_head = None if continue_head is None else continue_head(self.feature_size)
        self.divergence = divergence
        self.reward_weight = reward_weight
        self.reward_gradient = reward_gradient
        self.continue_weight = continue_weight
        self.continue_discount = continue_discount
        self.ensemble = None if ensemble is None else ensemble(self.dynamics)

    @property
    def feature_size(self) -> int:
        """F, the length of the features."""
        return self.dynamics.feature_size

    @property
    def feature_parts(self) -> Mapping[str, int]:
        """The parts of the features: h_t and z_t."""
        return {"deterministic": self.dynamics.cell.size, "stochastic": self.dynamics.latent.size}

    @property
    def embedding_size(self) -> int:
        """E, the length of the encoder's output."""
        return self.encoder.embedding_size

    @property
    def reads(self) -> Sequence[str]:
        """The observations that the encoder reads."""
        return self.encoder.names

    @property
    def predicts_ends(self) -> bool:
        """Whether the model has a continue head."""
        return self.continue_head is not None

    @property
    def noise_distribution(self) -> str:
        """The distribution that ``noise`` samples: that of the latent."""
        return self.dynamics.latent.noise_distribution

    def initial(self, count: int) -> RecurrentState:
        """The state before any observation: zeros."""
        return self.dynamics.initial(count)

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Random numbers for a batch of z of this shape, [*shape, Z]."""
        return self.dynamics.noise(shape, generator)

    def features(self, state: RecurrentState) -> Tensor:
        """The vector that heads, probes and behaviours read: [..., F]."""
        return self.dynamics.features(state)

    def observe(
        self, batch: SequenceBatch, generator: torch.Generator, start: RecurrentState | None = None
    ) -> Rollout[RecurrentState]:
        """Posterior states of recorded sequences; the details are ``Distributions``."""
        action = self.spec.action.normalize(batch.action)
        embedding, distance = self.encoder(batch.observations), self.divergence.distance
        return self.dynamics.observe(embedding, action, batch.is_first, generator, start, distance=distance)

    def filter(
        self,
        state: RecurrentState,
        action: Tensor,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,
    ) -> RecurrentState:
        """A sample of the posterior of one more row; ``action`` is in the environment's units."""
        reset = is_first[:, None]
        action = self.spec.action.normalize(action).masked_fill(reset, 0)
        state = map_state(lambda value: value.masked_fill(reset, 0), state)
        return self.dynamics.filter(state, action, self.encoder(observations), noise)

    def step(self, state: RecurrentState, action: Tensor, noise: Tensor) -> RecurrentState:
        """A sample of the prior after ``action`` [N, A] in [-1, 1]."""
        return self.dynamics.step(state, action, noise)

    def reward(self, trajectory: ImaginedTrajectory[RecurrentState]) -> Tensor:
        """E[r | s] on arrival, [H + 1, N]."""
        return self.reward_head(trajectory.features).mean

    def continuation(self, trajectory: ImaginedTrajectory[RecurrentState]) -> Tensor:
        """Probability that the episode continues, [H + 1, N]; one without a continue head.

        If a behaviour's discount equals ``continue_discount``, their product is exactly the head's prediction.
        """
        if self.continue_head is None:
            return torch.ones_like(trajectory.features[..., 0])
        return self.continue_head(trajectory.features).mean / self.continue_discount

    def members(self, trajectory: ImaginedTrajectory[RecurrentState]) -> MemberPredictions:
        """The predictions of each row by the ensemble's members.

        Raises:
            UserError: if the model has no ensemble.
        """
        if self.ensemble is None:
            raise UserError(
                "the world model was trained without an ensemble, so its uncertainty is unknown; add "
                "world_model/ensemble=priors or world_model/ensemble=one_step and train it again, or use "
                "reward=predicted"
            )
        return self.ensemble.predictions(self.dynamics.state_of(trajectory.features), trajectory.action)

    def parts(self) -> Mapping[str, nn.Module | None]:
        """The networks by name; each can have its own learning rate."""
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
        """The ensemble: the other parts learn the same with it as without."""
        return ("ensemble",)

    def losses(self, rollout: Rollout[RecurrentState], batch: SequenceBatch) -> dict[str, Loss]:
        """The losses that all objectives share: -ln p(r_t | s_t), -ln p(c_t | s_t) with a continue head, and the KL.

        An ensemble adds its own loss, which trains only its members.
        """
        result = self.divergence(self._compared(rollout, batch))
        read = rollout.features if self.reward_gradient else rollout.features.detach()  # stop: not by the task
        result["reward"] = Loss(-self.reward_head(read).log_prob(batch.reward), self.reward_weight)
        if self.continue_head is not None:
            target = self.continue_discount * (~batch.is_terminal)
            result["continue"] = Loss(-self.continue_head(rollout.features).log_prob(target), self.continue_weight)
        if self.ensemble is not None:
            result["ensemble"] = self.ensemble.loss(rollout, self.spec.action.normalize(batch.action), batch)
        return result

    def _compared(self, rollout: Rollout[RecurrentState], batch: SequenceBatch) -> Compared:
        details, action = distributions(rollout), self.spec.action.normalize(batch.action)
        further = partial(
            self.dynamics.further_priors, rollout.states, details.prior, action, batch.is_first, details.noise
        )
        return Compared(self.dynamics.latent, details.posterior, details.prior, further)

    def figures(
        self,
        rollout: Rollout[RecurrentState],
        batch: SequenceBatch,  # noqa: ARG002 - the figures of other models read it
    ) -> dict[str, Tensor]:
        """``kl``: KL(posterior || prior), the information that observations add to the prior, in nats per step."""
        details = distributions(rollout)
        return {"kl": self.dynamics.latent.kl(details.posterior, details.prior).mean()}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line on posterior collapse, which later stages would not reveal."""
        if figures["kl"] >= COLLAPSED:
            return []
        return [
            f"posterior collapse: observations add only {figures['kl']:.1e} nats per step to the prior "
            "(validation/kl); unless the data are fully predictable, the state ignores them: train again with a lower "
            "world_model_training.optimizer.lr, or a smaller weight of the divergence (world_model.divergence)"
        ]

    def for_acting(self) -> "WorldModel":
        """A copy without prior, heads and ensemble, which ``filter`` and ``features`` do not need."""
        pruned = copy.deepcopy(self)
        pruned.dynamics.prior_head = nn.Sequential()
        pruned.reward_head = nn.Sequential()  # acting needs no reward
        pruned.continue_head = pruned.ensemble = None
        return pruned
