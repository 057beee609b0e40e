"""TOLD, the task-oriented latent dynamics of TD-MPC: a world model with its own critics and policy."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import ActionSpec, DataSpec
from dreamset.models.distributions import Distribution, TanhNormal, noise_of_kind
from dreamset.models.told.critics import QEnsemble, TargetCopy, drawn_members, mean_of_drawn, minimum_of_drawn
from dreamset.models.told.networks import LatentEncoder
from dreamset.models.told.policy import ClippedNormal, DeterministicPolicy, RunningScale, SquashedGaussianPolicy
from dreamset.models.told.state import Draws, LatentState, Window
from dreamset.models.told.targets import powers, same_episode, td_target, transition_weights

COLLAPSED = 1e-3  # standard deviation of the latents; that of an untrained model is ten times as large

Policy = SquashedGaussianPolicy | DeterministicPolicy
Head = Callable[[Tensor], Distribution]
Reduction = Callable[[Tensor, Tensor], Tensor]  # values of members [K, ...], drawn members [2] -> [...]


class TOLD(nn.Module):
    """z = h(o), z' = d(z, a), r = R(z, a), Q_k(z, a) and a = pi(z): TD-MPC (Hansen et al. 2022) and TD-MPC2 (2024).

    The model is deterministic and has no decoder and no memory: each row's state is its observation's code. An update
    predicts a window of H + 1 rows from its first row alone, under the recorded actions, z_0 = h(o_0) and
    z_t = d(z_{t-1}, a_t), and minimises ::

        (1 / H) sum_{t=1..H} rho^(t-1) [c_r l(R(z_{t-1}, a_t), r_t) + c_v mean_k l(Q_k(z_{t-1}, a_t), y_t)]
        y_t = r_t + gamma (1 - end_t) Q'(h(o_t), pi(h(o_t)))                                (no gradient)

    together with the consistency of z_t and h(o_t), which is an objective (``objectives/consistency.py``). Q' are slow
    copies of the critics. A second step, which sees the new critics, trains the policy to maximise
    sum_{t=0..H} rho^t (Q(z_t, pi(z_t)) / S + eta entropy). Weights are zero once another episode begins in the window.

    The loss of a value is the mean over the members, as in TD-MPC2; TD-MPC takes their sum.

    Args:
        spec: the data's specification; actions must be continuous and bounded.
        encoder: constructs h.
        dynamics: constructs d from Z and A.
        reward_head: constructs R from Z + A.
        critics: constructs Q_1 ... Q_K from Z and A.
        policy: constructs pi from Z and the specification of actions.
        scale: S, the range of the values that the policy maximises; None: one, as in TD-MPC.
        continue_head: constructs the probability that the episode goes on from Z; None if episodes end only by a time
            limit.
        target: constructs the slow copies from the critics.
        target_value: reduces the slow copies' values for y.
        policy_value: reduces the critics' values for the policy.
        discount: gamma. For episodes of L steps TD-MPC2 takes (L / 5 - 1) / (L / 5), at least 0.95 and at most 0.995.
        rho: weight of a row relative to the one before.
        reward_weight: c_r.
        value_weight: c_v.
        continue_weight: weight of the continuation's loss, without rho.
        entropy_weight: eta.

    Raises:
        UserError: if actions are discrete or have no bounds.
    """

    headline = "consistency"
    noise_distribution = "none"
    embedding_size = 0  # an objective that compares states with embeddings would compare a code with itself

    def __init__(
        self,
        spec: DataSpec,
        *,
        encoder: Callable[[DataSpec], LatentEncoder],
        dynamics: Callable[[int, int], nn.Module],
        reward_head: Callable[[int], Head],
        critics: Callable[[int, int], QEnsemble],
        policy: Callable[[int, ActionSpec], Policy],
        discount: float,
        scale: RunningScale | None = None,
        continue_head: Callable[[int], Head] | None = None,
        target: Callable[[nn.Module], TargetCopy] = TargetCopy,
        target_value: Reduction = minimum_of_drawn,
        policy_value: Reduction = mean_of_drawn,
        rho: float = 0.5,
        reward_weight: float = 0.1,
        value_weight: float = 0.1,
        continue_weight: float = 1.0,
        entropy_weight: float = 1e-4,
    ) -> None:
        super().__init__()
        require_bounded(spec.action)
        self.spec = spec
        self.encoder = encoder(spec)
        size, action = self.encoder.size, spec.action.size
        self.feature_size = size
        self.dynamics = dynamics(size, action)
        self.reward_head = reward_head(size + action)
        self.continue_head = None if continue_head is None else continue_head(size)
        self.critics = critics(size, action)
        self.policy = policy(size, spec.action)
        self.target_critics = target(self.critics)
        self.scale = scale
        self.target_value, self.policy_value = target_value, policy_value
        self.discount, self.rho = discount, rho
        self.reward_weight, self.value_weight, self.continue_weight = reward_weight, value_weight, continue_weight
        self.entropy_weight = entropy_weight

    @property
    def reads(self) -> Sequence[str]:
        """The observations that the encoder reads."""
        return self.encoder.observations.names

    @property
    def predicts_ends(self) -> bool:
        """Whether the model has a continue head."""
        return self.continue_head is not None

    def initial(self, count: int) -> LatentState:
        """Zeros; ``filter`` ignores it."""
        return LatentState(next(self.parameters()).new_zeros(count, self.feature_size))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """[*shape, 0]: steps are deterministic."""
        return torch.zeros((*shape, 0), device=generator.device)

    def features(self, state: LatentState) -> Tensor:
        """The latent, [..., Z]."""
        return state.latent

    def observe(
        self,
        batch: SequenceBatch,
        generator: torch.Generator,
        start: LatentState | None = None,  # noqa: ARG002 - the model has no memory
    ) -> Rollout[LatentState]:
        """The code of every row by itself; the details are the ``Window`` of an update."""
        codes = self.encoder(batch.observations)
        action = self.spec.action.normalize(batch.action)
        latents = [codes[:, 0]]
        for t in range(1, codes.shape[1]):
            latents.append(self.dynamics(latents[-1], action[:, t]))
        window = Window(
            torch.stack(latents, dim=1), action, same_episode(batch.is_first), self._draws(action, generator)
        )
        return Rollout(LatentState(codes), codes, codes[..., :0], window)

    def _draws(self, action: Tensor, generator: torch.Generator) -> Draws:
        count, rows, _ = action.shape

        def normal() -> Tensor:
            return torch.randn(action.shape, generator=generator, device=generator.device)

        return Draws(
            normal(),
            normal(),
            drawn_members(self.critics.members, generator),
            drawn_members(self.critics.members, generator),
            self.critics.noise((count, rows - 1), generator),
            self.critics.noise((count, rows), generator),
        )

    def filter(
        self,
        state: LatentState,  # noqa: ARG002 - the model has no memory, so that an episode's start needs nothing either
        action: Tensor,  # noqa: ARG002
        observations: Mapping[str, Tensor],
        is_first: Tensor,  # noqa: ARG002
        noise: Tensor,  # noqa: ARG002
    ) -> LatentState:
        """The code of the observations alone."""
        return LatentState(self.encoder(observations))

    def step(self, state: LatentState, action: Tensor, noise: Tensor) -> LatentState:  # noqa: ARG002
        """d(z, a)."""
        return LatentState(self.dynamics(state.latent, action))

    def reward(self, trajectory: ImaginedTrajectory[LatentState]) -> Tensor:
        """R(z_{h-1}, a_{h-1}) in row h, [H + 1, N]; zero in row 0."""
        pairs = torch.cat([trajectory.features[:-1], trajectory.action], dim=-1)
        received = self.reward_head(pairs).mean
        return torch.cat([torch.zeros_like(trajectory.features[:1, :, 0]), received])

    def continuation(self, trajectory: ImaginedTrajectory[LatentState]) -> Tensor:
        """Probability that the episode continues, [H + 1, N]; one without a continue head."""
        return self._continuation(trajectory.features)

    def _continuation(self, latent: Tensor) -> Tensor:
        return torch.ones_like(latent[..., 0]) if self.continue_head is None else self.continue_head(latent).mean

    def values(self, trajectory: ImaginedTrajectory[LatentState], reward: Tensor) -> Tensor:
        """r_H + gamma c_H Q_k(z_H, pi(z_H)) of all critics, [K, N]; pi is the policy's mode."""
        last = trajectory.features[-1]
        value: Tensor = self.critics(last, self.policy(last).mode).mean
        return reward + self.discount * self._continuation(last) * value

    def propose(self, features: Tensor, noise: Tensor) -> Tensor:
        """A sample of the policy, [N, A]; its mode for zero noise."""
        return sampled(self.policy(features), noise)

    def parts(self) -> Mapping[str, nn.Module | None]:
        """The networks by name; there never is an ensemble of dynamics, which other models can have."""
        assert isinstance(self.reward_head, nn.Module)
        assert self.continue_head is None or isinstance(self.continue_head, nn.Module)
        return {
            "encoder": self.encoder,
            "dynamics": self.dynamics,
            "reward_head": self.reward_head,
            "continue_head": self.continue_head,
            "critics": self.critics,
            "policy": self.policy,
            "ensemble": None,
        }

    def watchers(self) -> Sequence[str]:
        """The policy: no loss of another part reaches it, nor its loss another part."""
        return ("policy",)

    def losses(self, rollout: Rollout[LatentState], batch: SequenceBatch) -> dict[str, Loss]:
        """The losses of reward, value and, with a continue head, continuation.

        Raises:
            UserError: if windows have a single row, and thus no transition.
        """
        window = details(rollout)
        if window.known.shape[1] < 2:
            raise UserError("world_model_training.batch.length is 1; allowed: 2 or more, a transition has two rows")
        before, action = window.latents[:, :-1], window.action[:, 1:]
        weights = transition_weights(window.known, self.rho)
        reward = self.reward_head(torch.cat([before, action], dim=-1)).log_prob(batch.reward[:, 1:])
        value = self.critics(before, action, window.draws.critic_dropout)
        target = self.target(rollout, batch)[:, 1:].expand(self.critics.members, -1, -1)
        result = {
            "reward": Loss(_with_first_row(-reward * weights), self.reward_weight),
            "value": Loss(_with_first_row(-value.log_prob(target).mean(0) * weights), self.value_weight),
        }
        if self.continue_head is not None:
            goes_on = self.continue_head(window.latents[:, 1:]).log_prob(~batch.is_terminal[:, 1:])
            loss = _with_first_row(-goes_on * transition_weights(window.known, 1.0))
            result["continue"] = Loss(loss, self.continue_weight)
        return result

    @torch.no_grad()
    def target(self, rollout: Rollout[LatentState], batch: SequenceBatch) -> Tensor:
        """y of every row, [B, T]."""
        draws = details(rollout).draws
        action = sampled(self.policy(rollout.features), draws.target_action)
        values: Tensor = self.target_critics(rollout.features, action).mean  # [K, B, T]
        value = self.target_value(values, draws.target_members)
        return td_target(batch.reward, batch.is_terminal, value, self.discount)

    def later_losses(self, rollout: Rollout[LatentState]) -> dict[str, Loss]:
        """The policy's loss in the predicted states of the window, [B, T]; moves S, so it is called once per update."""
        window = details(rollout)
        latents, draws = window.latents.detach(), window.draws
        distribution = self.policy(latents)
        action = sampled(distribution, draws.policy_action)
        values: Tensor = self.critics(latents, action, draws.policy_dropout).mean
        value = self.policy_value(values, draws.policy_members)
        if self.scale is not None:
            self.scale.update(value[:, 0])
        gain = value if self.scale is None else value / self.scale.scale
        if self.entropy_weight:
            gain = gain + self.entropy_weight * distribution.entropy()
        return {"policy": Loss(-gain * window.known * powers(self.rho, window.known))}

    def after_update(self) -> None:
        """Moves the slow copies of the critics, and the policy's schedule."""
        self.target_critics.update(self.critics)
        self.policy.after_update()

    def figures(self, rollout: Rollout[LatentState], batch: SequenceBatch) -> dict[str, Tensor]:
        """``consistency``: squared error of the next row's code, as a share of the codes' variance.

        ``latent_std``: standard deviation of the codes over all rows, the root of its mean square over the elements.
        """
        codes, action = rollout.features, details(rollout).action
        error = (self.dynamics(codes[:, :-1], action[:, 1:]) - codes[:, 1:]).square().mean(-1)
        known = ~batch.is_first[:, 1:]
        variance = codes.flatten(0, 1).var(0, unbiased=False).mean()
        smallest = torch.finfo(variance.dtype).tiny
        return {"consistency": error[known].mean() / variance.clamp_min(smallest), "latent_std": variance.sqrt()}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line on collapsed latents: a constant code is consistent with itself."""
        if figures["latent_std"] >= COLLAPSED:
            return []
        return [
            f"the latents collapsed: their standard deviation over the held-out rows is {figures['latent_std']:.1e} "
            "(validation/latent_std), so the state hardly depends on the observation; raise "
            "world_model.reward_weight and world_model.value_weight, lower objective.weight, or train longer"
        ]


def require_bounded(action: ActionSpec) -> None:
    """Refuses actions that the policy and the planner of TD-MPC do not support.

    Raises:
        UserError: if actions are discrete or have no bounds.
    """
    if action.discrete or not action.bounded:
        found = "discrete" if action.discrete else f"without bounds: {action.low} to {action.high}"
        raise UserError(
            f"the dataset's actions are {found}, but TD-MPC supports only continuous ones with bounds; choose another "
            "world_model, such as dreamer_v3"
        )


def sampled(distribution: TanhNormal | ClippedNormal, normal: Tensor) -> Tensor:
    """A sample of a policy from standard normal numbers, [..., A]."""
    return distribution.sample(noise_of_kind(distribution.noise_kind, normal))


def details(rollout: Rollout[LatentState]) -> Window:
    """The details of a rollout of this model."""
    assert isinstance(rollout.details, Window)
    return rollout.details


def _with_first_row(transitions: Tensor) -> Tensor:
    """[B, T - 1] to [B, T]: row 0 has no transition in the window."""
    return nn.functional.pad(transitions, (1, 0))
