"""A world model of frozen patch features: a window of frames as the state, and a transformer as the dynamics."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.core.states import map_state
from dreamset.models.attention.predictor import FramePredictor
from dreamset.models.attention.state import FrameWindow
from dreamset.models.attention.transformer import Drop, Dropout, keep, visible_frames
from dreamset.models.distributions import Distribution
from dreamset.models.encoders import Standardize

Head = Callable[[Tensor], Distribution]


@dataclass(frozen=True, slots=True)
class Seed:
    """The details of a ``Rollout``: the seed of the dropout, so that losses are functions of their arguments."""

    dropout: int


class AttentionWorldModel(nn.Module):
    """DINO-WM (Zhou et al. 2025): frozen patch features as the state, whose next frame a transformer predicts.

    It reads patch features that were computed at ingest, and the vectors of a dataset; images are not read. Nothing is
    learned but the dynamics, so the representation cannot collapse. Actions and frames follow the time rule: the token
    of row t holds ``action[t + 1]``, which leads to the next row.

    Training predicts every frame of a window but the first one from the recorded frames before it (teacher forcing).
    The loss of a row is ::

        mean over patches and channels of (z' - z)^2 + vector_weight * mean over vectors of (v' - v)^2

    Windows have H + 1 rows and follow each other; a batch of H + 1 rows is one window, as published. A longer one is
    several that share a row; a remainder of fewer than H rows is left out. Neither attention nor a loss crosses the
    start of an episode.

    The model predicts no rewards, so it plans towards goals. ``RewardedAttentionWorldModel`` does.

    Args:
        spec: the data's specification; exactly one observation must be patch features.
        dynamics: constructs the predictor from P, C, V and A.
        vector_weight: of the vectors' error, relative to that of the patches.
        continue_head: constructs the probability that the episode goes on from the size of the pooled features; None
            if episodes end only by a time limit.
        continue_weight: of its loss.

    Raises:
        UserError: if there is no observation of patch features, or several.
    """

    headline = "prediction"
    noise_distribution = "none"
    embedding_size = 0  # an objective that compares states with embeddings would compare features with themselves

    def __init__(
        self,
        spec: DataSpec,
        *,
        dynamics: Callable[[int, int, int, int], FramePredictor],
        vector_weight: float,
        continue_head: Callable[[int], Head] | None = None,
        continue_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.patches = patches_name(spec)
        self.vectors = sorted(name for name, array in spec.observations.items() if len(array.shape) == 1)
        self.map_shape = (spec.observations[self.patches].shape[0], spec.observations[self.patches].shape[1])
        self.vector_size = sum(spec.observations[name].size for name in self.vectors)
        self.standardize = nn.ModuleDict({_key(name): Standardize(spec.statistics[name]) for name in self.reads})
        self.dynamics: FramePredictor = dynamics(*self.map_shape, self.vector_size, spec.action.size)
        self.history = self.dynamics.history
        self.feature_size = self.map_shape[0] * self.map_shape[1] + self.vector_size
        self.pooled_size = self.map_shape[1] + self.vector_size
        self.continue_head = None if continue_head is None else continue_head(self.pooled_size)
        self.vector_weight, self.continue_weight = vector_weight, continue_weight

    @property
    def reads(self) -> Sequence[str]:
        """The observations that the model reads: all but images."""
        return (self.patches, *self.vectors)

    @property
    def feature_parts(self) -> Mapping[str, int]:
        """The number of features of each observation, in order."""
        return {name: self.spec.observations[name].size for name in self.reads}

    @property
    def predicts_ends(self) -> bool:
        """Whether the model has a continue head."""
        return self.continue_head is not None

    def initial(self, count: int) -> FrameWindow:
        """No known frame."""
        standardize = self.standardize[_key(self.patches)]
        assert isinstance(standardize, Standardize)
        new = standardize.mean.new_zeros
        return FrameWindow(
            new(count, self.history, *self.map_shape),
            new(count, self.history, self.vector_size),
            new(count, self.history, self.spec.action.size),
            new(count, self.history, dtype=torch.bool),
        )

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """[*shape, 0]: steps are deterministic."""
        return torch.zeros((*shape, 0), device=generator.device)

    def features(self, state: FrameWindow) -> Tensor:
        """The last frame's patch features, patch by patch, and its vectors, both standardised: [..., P C + V]."""
        return torch.cat([state.past_patches[..., -1, :, :].flatten(-2), state.past_vectors[..., -1, :]], dim=-1)

    def observe(
        self, batch: SequenceBatch, generator: torch.Generator, start: FrameWindow | None = None
    ) -> Rollout[FrameWindow]:
        """The windows of all rows, which are views of one tensor; the details are the ``Seed`` of the losses."""
        before = self.initial(len(batch.reward)) if start is None else start
        patches, vectors = self._read(batch.observations)
        action = self.spec.action.normalize(batch.action).masked_fill(batch.is_first[..., None], 0)
        rows = FrameWindow(patches, vectors, action, torch.ones_like(batch.is_first))
        windows = map_state(lambda old, new: _windows(torch.cat([old[:, 1:], new], dim=1), self.history), before, rows)
        episode = torch.cat([batch.is_first.new_zeros(len(action), self.history - 1), batch.is_first], dim=1).cumsum(1)
        same_episode = _windows(episode, self.history) == episode[:, self.history - 1 :, None]
        states = replace(windows, known=windows.known & same_episode)
        features = self.features(states)
        seed = torch.randint(2**48, (), generator=generator, device=generator.device)
        return Rollout(states, features, features[..., :0], Seed(int(seed)))

    def filter(
        self,
        state: FrameWindow,
        action: Tensor,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,  # noqa: ARG002 - steps are deterministic
    ) -> FrameWindow:
        """The window with one more frame; where an episode begins, with this frame alone."""
        action = self.spec.action.normalize(action).masked_fill(is_first[:, None], 0)
        before = map_state(lambda value: value.masked_fill(_like(is_first, value), 0), state)
        return _pushed(before, *self._read(observations), action)

    def step(self, state: FrameWindow, action: Tensor, noise: Tensor) -> FrameWindow:  # noqa: ARG002
        """The window with one more frame, which is predicted."""
        following = torch.cat([state.past_actions[:, 1:], action[:, None]], dim=1)
        visible = visible_frames(state.known)
        patches, vectors = self.dynamics(state.past_patches, state.past_vectors, following, visible, last=True)
        return _pushed(state, patches[:, 0], vectors[:, 0], action)

    def _read(self, observations: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The standardised patches [..., P, C] and vectors [..., V]."""
        patches = self.standardize[_key(self.patches)](observations[self.patches].float())
        vectors = [self.standardize[_key(name)](observations[name].float()) for name in self.vectors]
        return patches, torch.cat(vectors, dim=-1) if vectors else patches[..., 0, :0]

    def continuation(self, trajectory: ImaginedTrajectory[FrameWindow]) -> Tensor:
        """Probability that the episode continues, [H + 1, N]; one without a continue head."""
        if self.continue_head is None:
            return torch.ones_like(trajectory.features[..., 0])
        return self.continue_head(self.pooled(trajectory.features)).mean

    def pooled(self, features: Tensor) -> Tensor:
        """The mean over the patches, and the vectors: [..., C + V] from features [..., F]."""
        patches, vectors = self._split(features)
        return torch.cat([patches.mean(-2), vectors], dim=-1)

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Patches [..., P, C] and vectors [..., V]."""
        size = self.map_shape[0] * self.map_shape[1]
        return features[..., :size].unflatten(-1, self.map_shape), features[..., size:]

    def parts(self) -> Mapping[str, nn.Module | None]:
        """The networks by name; the encoder is frozen and not part of the model."""
        assert self.continue_head is None or isinstance(self.continue_head, nn.Module)
        names = ("encoder", "reward_head", "ensemble")
        return {**dict.fromkeys(names), "dynamics": self.dynamics, "continue_head": self.continue_head}

    def watchers(self) -> Sequence[str]:
        """None."""
        return ()

    def losses(self, rollout: Rollout[FrameWindow], batch: SequenceBatch) -> dict[str, Loss]:
        """The errors of the predicted frames by teacher forcing and, with a continue head, of the continuation.

        Raises:
            UserError: if windows have a single row, and thus no transition.
        """
        if batch.reward.shape[1] < 2:
            raise UserError("world_model_training.batch.length is 1; allowed: 2 or more, a transition has two rows")
        assert isinstance(rollout.details, Seed)
        errors = self._teacher_forced(rollout.states, batch.is_first, self._drop(rollout.details, batch))
        weights = {"patches": 1.0, "vectors": self.vector_weight}
        result = {name: Loss(error, weights[name]) for name, error in errors.items()}
        if self.continue_head is not None:
            distribution = self.continue_head(self.pooled(rollout.features))
            result["continue"] = Loss(-distribution.log_prob(~batch.is_terminal), self.continue_weight)
        return result

    def _drop(self, seed: Seed, batch: SequenceBatch) -> Drop:
        if not (self.training and self.dynamics.dropout):
            return keep
        return Dropout(self.dynamics.dropout, torch.Generator(batch.reward.device).manual_seed(seed.dropout))

    def _teacher_forced(self, states: FrameWindow, is_first: Tensor, drop: Drop) -> dict[str, Tensor]:
        """The errors of the patches and, if there are any, of the vectors in the rows that they predict: [B, T]."""
        last = map_state(lambda value: value[:, :, -1], states)  # [B, T, ...] the rows themselves
        count = min(self.history, is_first.shape[1] - 1)  # predicted rows of a window
        rows = map_state(lambda value: _windows(value, count + 1, count).flatten(0, 1), last)  # [B S, count + 1, ...]
        episode = _windows(is_first.cumsum(1), count + 1, count).flatten(0, 1)
        patches, vectors = self.dynamics(
            rows.past_patches[:, :-1],
            rows.past_vectors[:, :-1],
            rows.past_actions[:, 1:],
            visible_frames(episode[:, :-1]),
            drop=drop,
        )
        errors = {"patches": (patches - rows.past_patches[:, 1:]).square().mean((-1, -2))}
        if self.vectors:
            errors["vectors"] = (vectors - rows.past_vectors[:, 1:]).square().mean(-1)
        same_episode = episode[:, 1:] == episode[:, :-1]
        return {name: _per_row(error * same_episode, is_first) for name, error in errors.items()}

    def figures(self, rollout: Rollout[FrameWindow], batch: SequenceBatch) -> dict[str, Tensor]:
        """``prediction``: the mean squared error of the next row's standardised features, given the last H rows.

        ``prediction_share``: this error as a share of that of predicting that nothing changes.
        """
        action, known = self.spec.action.normalize(batch.action), ~batch.is_first[:, 1:]
        noise = self.noise((len(action),), torch.Generator(action.device))
        errors = []
        for t in range(action.shape[1] - 1):  # row by row, which limits the memory
            state = map_state(lambda value, t=t: value[:, t], rollout.states)
            ahead = self.features(self.step(state, action[:, t + 1], noise))
            errors.append((ahead - rollout.features[:, t + 1]).square().mean(-1))
        error = torch.stack(errors, dim=1)[known].mean()
        still = rollout.features.diff(dim=1).square().mean(-1)[known].mean()
        return {"prediction": error, "prediction_share": error / still.clamp_min(torch.finfo(still.dtype).tiny)}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line on predictions that are no better than the last frame."""
        if figures["prediction_share"] < 1:
            return []
        return [
            "the world model predicts the next frame no better than the last frame does: its error is "
            f"{figures['prediction_share']:.2f} times as large (validation/prediction_share); train it longer, or with "
            "a higher world_model_training.optimizer.lr"
        ]

    def for_acting(self) -> "AttentionWorldModel":
        """A copy without dynamics and heads, which ``filter`` and ``features`` do not need."""
        pruned = copy.deepcopy(self)
        pruned.dynamics = nn.Sequential()  # type: ignore[assignment]
        pruned.continue_head = None
        return pruned


class RewardedAttentionWorldModel(AttentionWorldModel):
    """An ``AttentionWorldModel`` that predicts the reward on arrival, too, from the features' mean over the patches.

    Args:
        spec: the data's specification.
        reward_head: constructs p(r | s) from the size of the pooled features.
        reward_weight: of its loss.
        settings: of the ``AttentionWorldModel``.
    """

    def __init__(
        self, spec: DataSpec, *, reward_head: Callable[[int], Head], reward_weight: float = 1.0, **settings: Any
    ) -> None:
        super().__init__(spec, **settings)
        self.reward_head = reward_head(self.pooled_size)
        self.reward_weight = reward_weight

    def reward(self, trajectory: ImaginedTrajectory[FrameWindow]) -> Tensor:
        """E[r | s] on arrival, [H + 1, N]."""
        return self.reward_head(self.pooled(trajectory.features)).mean

    def parts(self) -> Mapping[str, nn.Module | None]:
        """The networks by name."""
        assert isinstance(self.reward_head, nn.Module)
        return {**super().parts(), "reward_head": self.reward_head}

    def losses(self, rollout: Rollout[FrameWindow], batch: SequenceBatch) -> dict[str, Loss]:
        """Those of the ``AttentionWorldModel``, and -ln p(r_t | s_t)."""
        distribution = self.reward_head(self.pooled(rollout.features))
        reward = Loss(-distribution.log_prob(batch.reward), self.reward_weight)
        return {**super().losses(rollout, batch), "reward": reward}

    def for_acting(self) -> "AttentionWorldModel":
        """A copy without dynamics and heads."""
        pruned = super().for_acting()
        pruned.reward_head = nn.Sequential()
        return pruned


def patches_name(spec: DataSpec) -> str:
    """The one observation of patch features.

    Raises:
        UserError: if there is none, or there are several.
    """
    names = sorted(name for name, array in spec.observations.items() if array.is_patches)
    if len(names) == 1:
        return names[0]
    found = f"{', '.join(names)} are patch features" if names else "no observation has patch features"
    raise UserError(
        f"{found} (observations: {', '.join(sorted(spec.observations)) or 'none'}), but AttentionWorldModel reads "
        "exactly one of them; "
        + (
            "leave the others out with the transform SelectColumns"
            if names
            else "add the transform PatchFeatures to dataset.transforms and ingest again, or choose another world_model"
        )
    )


def _key(name: str) -> str:
    """The name of a module; PyTorch allows no dots."""
    return name.replace(".", "/")


def _like(flag: Tensor, value: Tensor) -> Tensor:
    """[N] with the axes of ``value`` [N, ...], each of length one."""
    return flag.reshape(-1, *[1] * (value.ndim - 1))


def _pushed(state: FrameWindow, patches: Tensor, vectors: Tensor, action: Tensor) -> FrameWindow:
    """The window without its oldest frame, and with a new one."""
    new = FrameWindow(patches, vectors, action, torch.ones_like(state.known[:, 0]))
    return map_state(lambda old, last: torch.cat([old[:, 1:], last[:, None]], dim=1), state, new)


def _windows(rows: Tensor, length: int, stride: int = 1) -> Tensor:
    """Windows of consecutive rows: a view [B, S, length, ...] of [B, T, ...]."""
    return rows.unfold(1, length, stride).movedim(-1, 2)


def _per_row(errors: Tensor, is_first: Tensor) -> Tensor:
    """Errors [B S, count] of consecutive windows in the rows that they predict, [B, T], with the same mean."""
    count, rows = is_first.shape
    predicted = errors.reshape(count, -1)
    after = rows - 1 - predicted.shape[1]
    return pad(predicted * (rows / predicted.shape[1]), (1, after))
