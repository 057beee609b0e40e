"""World models that are no RSSM, a controller that is no actor and a reward that learns: what the seams must carry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.core.states import map_state
from dreamset.models.layers import mlp


def flat(spec: DataSpec, observations: Mapping[str, Tensor]) -> Tensor:
    """Every observation side by side, images divided by 255: [..., O]."""
    parts = []
    for name, array in sorted(spec.observations.items()):
        value = observations[name].float() / (255.0 if array.is_image else 1.0)
        parts.append(value.flatten(value.ndim - len(array.shape)))
    return torch.cat(parts, dim=-1)


class Foreign(nn.Module):
    """What both models share: sizes, no noise, no warnings."""

    noise_distribution = "none"
    predicts_ends = False

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = sum(array.size for array in spec.observations.values())

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.zeros(*shape, 0, device=generator.device)

    def continuation(self, trajectory: ImaginedTrajectory) -> Tensor:
        return torch.ones_like(trajectory.features[..., 0])

    def watchers(self) -> Sequence[str]:
        return ()

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        return []


@dataclass(frozen=True)
class Code:
    """A latent vector, nothing else."""

    z: Tensor  # [..., Z]


class LatentModel(Foreign):
    """Task-oriented latent dynamics: z = h(o), z' = z + d(z, a), r = R(z, a). Nothing is drawn."""

    headline = "consistency"

    def __init__(self, spec: DataSpec, *, size: int = 12, hidden: int = 16) -> None:
        super().__init__(spec)
        self.size = size
        self.encoder = mlp(self.inputs, size, hidden=hidden, layers=1)
        self.dynamics = mlp(size + spec.action.size, size, hidden=hidden, layers=1)
        self.reward_head = mlp(size + spec.action.size, 1, hidden=hidden, layers=1)

    @property
    def feature_size(self) -> int:
        return self.size

    @property
    def embedding_size(self) -> int:
        return self.size

    def initial(self, count: int) -> Code:
        return Code(self.encoder[0].weight.new_zeros(count, self.size))

    def features(self, state: Code) -> Tensor:
        return state.z

    def observe(
        self,
        batch: SequenceBatch,
        generator: torch.Generator,
        start: Code | None = None,
    ) -> Rollout[Code]:
        z = torch.tanh(self.encoder(flat(self.spec, batch.observations)))
        return Rollout(Code(z), z, z)

    def filter(
        self,
        state: Code,
        action: Tensor,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,
    ) -> Code:
        return Code(torch.tanh(self.encoder(flat(self.spec, observations))))

    def step(self, state: Code, action: Tensor, noise: Tensor) -> Code:
        return Code(state.z + self.dynamics(torch.cat([state.z, action], dim=-1)))

    def reward(self, trajectory: ImaginedTrajectory[Code]) -> Tensor:
        pairs = torch.cat([trajectory.features[:-1], trajectory.action], dim=-1)  # R looks at (z, a)
        arrived = self.reward_head(pairs)[..., 0]
        return torch.cat([torch.zeros_like(arrived[:1]), arrived])

    def parts(self) -> Mapping[str, nn.Module | None]:
        return {"encoder": self.encoder, "dynamics": self.dynamics, "reward_head": self.reward_head}

    def losses(self, rollout: Rollout[Code], batch: SequenceBatch) -> dict[str, Loss]:
        z, known = rollout.features, (~batch.is_first[:, 1:]).float()
        action = self.spec.action.normalize(batch.action)[:, 1:]
        pairs = torch.cat([z[:, :-1], action], dim=-1)
        ahead = z[:, :-1] + self.dynamics(pairs)
        consistency = (ahead - z[:, 1:].detach()).square().sum(-1) * known
        reward = (self.reward_head(pairs)[..., 0] - batch.reward[:, 1:]).square() * known
        pad = nn.functional.pad
        return {"consistency": Loss(pad(consistency, (1, 0))), "reward": Loss(pad(reward, (1, 0)))}

    def figures(self, rollout: Rollout[Code], batch: SequenceBatch) -> dict[str, Tensor]:
        return {"consistency": self.losses(rollout, batch)["consistency"].value.mean()}


@dataclass(frozen=True)
class Tokens:
    """The last K tokens and the actions that led to them, the newest last; nested, as states may be."""

    token: Tensor  # [..., K, E]
    led_by: "Actions"


@dataclass(frozen=True)
class Actions:
    action: Tensor  # [..., K, A]


class TokenModel(Foreign):
    """A window of tokens predicts the next token. It knows nothing of rewards, so nothing can be learned for them."""

    headline = "prediction"

    def __init__(self, spec: DataSpec, *, window: int = 3, token: int = 6, hidden: int = 16) -> None:
        super().__init__(spec)
        self.window = window
        self.token = token
        self.tokenizer = nn.Linear(self.inputs, token)
        self.predictor = mlp(window * (token + spec.action.size) + spec.action.size, token, hidden=hidden, layers=1)

    @property
    def feature_size(self) -> int:
        return self.window * self.token

    @property
    def embedding_size(self) -> int:
        return 0

    def initial(self, count: int) -> Tokens:
        new = self.tokenizer.weight.new_zeros
        return Tokens(new(count, self.window, self.token), Actions(new(count, self.window, self.spec.action.size)))

    def features(self, state: Tokens) -> Tensor:
        return state.token.flatten(-2)

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: Tokens | None = None) -> Rollout[Tokens]:
        state = self.initial(len(batch.reward)) if start is None else start
        rows = []
        for t in range(batch.reward.shape[1]):
            seen = {name: value[:, t] for name, value in batch.observations.items()}
            noise = self.noise((len(batch.reward),), generator)
            state = self.filter(state, batch.action[:, t], seen, batch.is_first[:, t], noise)
            rows.append(state)
        states = map_state(lambda *tensors: torch.stack(tensors, dim=1), *rows)
        features = self.features(states)
        return Rollout(states, features, features[..., :0])

    def filter(
        self,
        state: Tokens,
        action: Tensor,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,
    ) -> Tokens:
        forget = is_first[:, None]
        before = map_state(lambda value: value.masked_fill(forget[..., None], 0), state)
        led_here = self.spec.action.normalize(action).masked_fill(forget, 0)
        return self._shifted(before, self.tokenizer(flat(self.spec, observations)), led_here)

    def step(self, state: Tokens, action: Tensor, noise: Tensor) -> Tokens:
        known = torch.cat([state.token.flatten(-2), state.led_by.action.flatten(-2), action], dim=-1)
        return self._shifted(state, self.predictor(known), action)

    def _shifted(self, state: Tokens, token: Tensor, action: Tensor) -> Tokens:
        def push(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat([old[..., 1:, :], new[..., None, :]], dim=-2)

        return Tokens(push(state.token, token), Actions(push(state.led_by.action, action)))

    def parts(self) -> Mapping[str, nn.Module | None]:
        return {"tokenizer": self.tokenizer, "predictor": self.predictor}

    def losses(self, rollout: Rollout[Tokens], batch: SequenceBatch) -> dict[str, Loss]:
        before = map_state(lambda value: value[:, :-1], rollout.states)
        action = self.spec.action.normalize(batch.action)[:, 1:]
        ahead = self.step(before, action, torch.zeros(0))
        error = (ahead.token[..., -1, :] - rollout.states.token[:, 1:, -1, :].detach()).square().sum(-1)
        # the tokenizer must not collapse: its tokens also keep the observations' scale
        spread = (rollout.states.token[..., -1, :].std() - 1).square().expand(batch.reward.shape)
        return {"prediction": Loss(nn.functional.pad(error * ~batch.is_first[:, 1:], (1, 0))), "spread": Loss(spread)}

    def figures(self, rollout: Rollout[Tokens], batch: SequenceBatch) -> dict[str, Tensor]:
        return {"prediction": self.losses(rollout, batch)["prediction"].value.mean()}
