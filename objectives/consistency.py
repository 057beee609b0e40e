"""The consistency objective: predicted features must equal those of the observations, several steps ahead."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dreamset.core.capabilities import Dynamics, Representation, require
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.core.states import map_state
from dreamset.models.imagination import predict
from dreamset.models.layers import mlp
from dreamset.objectives.base import Objective


class Target(nn.Module, ABC):
    """Computes the states that predictions are compared with; no gradient flows into them."""

    @abstractmethod
    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, generator: torch.Generator) -> Rollout[Any]:
        """The states of all rows; ``rollout`` is the trained model's own."""

    def update(self, model: Representation[Any], updates: int) -> None:
        """Called after optimiser step number ``updates``, counted from 1."""


class OnlineTarget(Target):
    """The trained model's own states (TD-MPC2, Hansen et al. 2024)."""

    def __init__(self, model: Representation[Any]) -> None:  # noqa: ARG002 - the other target copies the model
        super().__init__()

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, generator: torch.Generator) -> Rollout[Any]:  # noqa: ARG002
        """``rollout`` itself."""
        return rollout


class EMATarget(Target):
    """The states of a moving average of the model's weights (TD-MPC, Hansen et al. 2022).

    Args:
        model: the world model; it is copied.
        decay: share of the old weights that an update keeps.
        every: optimiser steps between updates.
    """

    def __init__(self, model: Representation[Any], *, decay: float, every: int) -> None:
        super().__init__()
        assert isinstance(model, nn.Module)
        self.copy = deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.every = every

    @torch.no_grad()
    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, generator: torch.Generator) -> Rollout[Any]:  # noqa: ARG002
        """The copy's states of the batch."""
        observed: Rollout[Any] = self.copy.observe(batch, generator)
        return observed

    @torch.no_grad()
    def update(self, model: Representation[Any], updates: int) -> None:
        """copy <- decay copy + (1 - decay) model, after steps ``every``, 2 ``every``, ...; buffers are copied."""
        assert isinstance(model, nn.Module)
        if updates % self.every == 0:
            for slow, fast in zip(self.copy.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.decay)
            for old, new in zip(self.copy.buffers(), model.buffers(), strict=True):
                old.copy_(new)


class Comparison(nn.Module, ABC):
    """What is compared, and the error of a prediction."""

    @abstractmethod
    def wanted(self, states: Rollout[Any]) -> Tensor:
        """The vectors to predict, [B, T, V], from the target's states."""

    @abstractmethod
    def forward(self, features: Tensor, wanted: Tensor) -> Tensor:
        """The error [...] of predicted features [..., F], compared with [..., V]."""


class FeatureError(Comparison):
    """||f - f*||^2 / F: predicted features must equal the target's (TD-MPC and TD-MPC2)."""

    def __init__(self, model: Representation[Any]) -> None:  # noqa: ARG002 - the other comparison needs the sizes
        super().__init__()

    def wanted(self, states: Rollout[Any]) -> Tensor:
        """The features."""
        return states.features

    def forward(self, features: Tensor, wanted: Tensor) -> Tensor:
        """The mean squared difference."""
        return (features - wanted).square().mean(-1)


class EmbeddingError(Comparison):
    """||g(f) - e*||^2 / E: a network g on predicted features must give the target's embeddings of the observations.

    A posterior may ignore its observation, and then its features are easy to predict; embeddings depend on nothing
    else. e* has mean 0 in each dimension and an average variance of 1 over the batch, so that embeddings cannot shrink
    to lower the loss.

    Args:
        model: the world model; it must embed its observations.
        hidden, layers: of g.
    """

    def __init__(self, model: Representation[Any], *, hidden: int, layers: int) -> None:
        super().__init__()
        if model.embedding_size == 0:
            raise UserError(
                f"objective.comparison is EmbeddingError, but {type(model).__name__} has no embeddings of "
                "observations; use objective/comparison=features"
            )
        self.head = mlp(model.feature_size, model.embedding_size, hidden=hidden, layers=layers)

    def wanted(self, states: Rollout[Any]) -> Tensor:
        """e*."""
        variance, mean = torch.var_mean(states.embedding, dim=(0, 1), correction=0)
        return (states.embedding - mean) / (variance.mean() + 1e-6).sqrt()

    def forward(self, features: Tensor, wanted: Tensor) -> Tensor:
        """The mean squared difference."""
        error: Tensor = (self.head(features) - wanted).square().mean(-1)
        return error


class Consistency(Objective):
    """L_s = 1 / H sum_{d=1..H} rho^(d-1) error(f_{s+d}, sg f*_{s+d}), the mean over starts s.

    f_{s+1}, ..., f_{s+H} are the features of states that the dynamics predict from the state of row s under the
    recorded actions, without observations; f* are the target's of the same rows. A start is every row that H rows
    follow: only row 0 in windows of H + 1 rows. With ``FeatureError``, this is the published loss (TD-MPC, Hansen et
    al. 2022; TD-MPC2, Hansen et al. 2024). Terms behind the end of the start's episode are left out.

    Gradients train the dynamics and, through the starts, the encoder. The random numbers of stochastic dynamics depend
    only on the number of updates and on a seed that is drawn at construction: a resumed training continues with them.

    Args:
        model: the world model; it must predict (``Dynamics``).
        weight: factor on the loss.
        horizon: H; a shorter window is predicted to its end.
        rho: factor on the error for each further step.
        target: constructs the source of f* from the model.
        comparison: constructs the error from the model.
    """

    seed: Tensor
    updates: Tensor

    def __init__(
        self,
        model: Representation[Any],
        *,
        weight: float,
        horizon: int,
        rho: float,
        target: Callable[[Representation[Any]], Target] = OnlineTarget,
        comparison: Callable[[Representation[Any]], Comparison] = FeatureError,
    ) -> None:
        super().__init__()
        require(model, Dynamics, by="the objective Consistency")
        self.weight = weight
        self.horizon = horizon
        self.rho = rho
        self.target = target(model)
        self.comparison = comparison(model)
        self.register_buffer("seed", torch.randint(2**48, ()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:
        """The loss [B, T]; its mean is that of L_s, and a row has the errors of the predictions for this row.

        Raises:
            UserError: if windows have a single row.
        """
        assert isinstance(model, Dynamics)
        horizon = self._horizon(batch)
        generator = torch.Generator(rollout.features.device).manual_seed(int(self.seed) + int(self.updates))
        predicted = predicted_features(model, rollout, batch, horizon, generator)  # [B, S, H, F]
        wanted = self.comparison.wanted(self.target(rollout, batch, generator)).detach()  # [B, T, V]
        errors = self.comparison(predicted, following(wanted, horizon))  # [B, S, H]
        return {"consistency": Loss(per_row(errors, batch.is_first, self.rho), self.weight)}

    def after_update(self, model: Representation[Any]) -> None:
        """Counts the update, and updates the target."""
        self.updates += 1
        self.target.update(model, int(self.updates))

    def _horizon(self, batch: SequenceBatch) -> int:
        rows = batch.reward.shape[1]
        if rows < 2:
            raise UserError(
                "world_model_training.batch.length is 1; allowed: 2 or more, because the objective Consistency "
                "predicts later rows; change the entry"
            )
        return min(self.horizon, rows - 1)


def following(values: Tensor, horizon: int) -> Tensor:
    """The ``horizon`` rows after each start: [B, S, H, ...] from [B, T, ...], with S = T - H."""
    windows: Tensor = values[:, 1:].unfold(1, horizon, 1)  # [B, S, ..., H]
    return windows.movedim(-1, 2)


def predicted_features(
    model: Dynamics[Any], rollout: Rollout[Any], batch: SequenceBatch, horizon: int, generator: torch.Generator
) -> Tensor:
    """The features that the dynamics predict from every start: [B, S, H, F]."""
    actions = following(model.spec.action.normalize(batch.action), horizon)  # [B, S, H, A]
    start = map_state(lambda value: value[:, : actions.shape[1]].flatten(0, 1), rollout.states)  # [BS, ...]
    features = predict(model, start, actions.flatten(0, 1), generator).features[1:]  # [H, BS, F]
    return features.transpose(0, 1).reshape(*actions.shape[:3], -1)


def per_row(errors: Tensor, is_first: Tensor, rho: float) -> Tensor:
    """Weighs the errors [B, S, H] of predictions and adds them in the rows that they predict: [B, T].

    The mean over rows is the mean over starts of 1 / H sum_d rho^(d-1) error_d. An error counts only if no episode
    begins between its start and its row.
    """
    starts, horizon = errors.shape[1:]
    same_episode = following(~is_first, horizon).cumprod(-1)  # [B, S, H]
    discounts = rho ** torch.arange(horizon, dtype=errors.dtype, device=errors.device)
    weighted = errors * same_episode * discounts / (starts * horizon)
    rows = torch.zeros(is_first.shape, dtype=errors.dtype, device=errors.device)
    for step in range(horizon):
        rows[:, step + 1 : step + 1 + starts] += weighted[..., step]
    return rows * is_first.shape[1]
