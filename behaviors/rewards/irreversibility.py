"""The cost of steps from which recorded episodes do not come back."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, LearnerLosses, RewardFunction
from dreamset.behaviors.reversibility.forgetting import forgetful_features
from dreamset.behaviors.reversibility.pairs import draw_pairs
from dreamset.behaviors.reversibility.precedence import ActionIrreversibility, Precedence
from dreamset.behaviors.windows import mean_of_known
from dreamset.core.errors import UserError
from dreamset.core.parameters import OptimizerFactory
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec

ORDER_ACCURACY = "reversibility/order_accuracy"
RECORDED = "reversibility/recorded_irreversibility"


class Irreversibility(RewardFunction):
    """-weight max(psi(s_{h-k}, s_h) - threshold, 0) on arrival at row h (Grinsztajn et al. 2021, their RAE).

    psi is the probability that recorded episodes visit the first state before the second; see ``Precedence``. It is
    near 1/2 where they come and go, and near 1 where they never come back. k = ``steps`` asks whether the state of k
    rows ago could be reached again; the first rows of a trajectory are compared with its row 0.

    Its networks ``precedence`` and ``action_irreversibility`` learn from the features of recorded rows.

    Args:
        precedence: makes psi from the number of features.
        action_irreversibility: makes phi(s, a), which ``acting=reversible`` needs, from the numbers of features and
            actions; None: no such network.
        lr: learning rate of Adam, for each network.
        weight: the cost of a step that is certainly one-way is weight (1 - threshold), in units of reward.
        threshold: the largest psi without a cost, from 0 to below 1.
        steps: k.
        window: the largest distance of the rows of a training pair; None: all rows of a recorded window.
        forgetting: share of the recorded rows before which the world model forgets, so that its networks cannot learn
            the order of rows from the age of a memory; see ``forgetful_features``. 0: it never does.

    Raises:
        UserError: if a number is out of its range.
    """

    precedence: Precedence | None
    action_irreversibility: ActionIrreversibility | None

    def __init__(
        self,
        *,
        precedence: Callable[[int], Precedence],
        action_irreversibility: Callable[[int, int], ActionIrreversibility] | None = None,
        lr: float = 1e-3,
        weight: float = 1.0,
        threshold: float = 0.7,
        steps: int = 1,
        window: int | None = None,
        forgetting: float = 0.3,
    ) -> None:
        super().__init__()
        _require(lr >= 0, "lr", lr, "0 or more")
        _require(weight >= 0, "weight", weight, "0 or more")
        _require(0 <= threshold < 1, "threshold", threshold, "0 to below 1")
        _require(steps >= 1, "steps", steps, "1 or more")
        _require(window is None or window >= 1, "window", window, "1 or more, or null for all rows")
        _require(0 <= forgetting < 1, "forgetting", forgetting, "0 to below 1")
        self.make_precedence, self.make_action_irreversibility = precedence, action_irreversibility
        self.lr = lr
        self.weight, self.threshold, self.steps = weight, threshold, steps
        self.window, self.forgetting = window, forgetting
        self.rows = 2 if window is None else window + 1
        self.precedence = self.action_irreversibility = None

    def set_up(self, features: int, action: ActionSpec) -> None:
        """Creates the networks."""
        self.precedence = self.make_precedence(features)
        if self.make_action_irreversibility is not None:
            self.action_irreversibility = self.make_action_irreversibility(features, action.size)

    def networks(self) -> Mapping[str, nn.Module]:
        """``precedence`` and, unless it is left out, ``action_irreversibility``."""
        networks = {"precedence": self.precedence, "action_irreversibility": self.action_irreversibility}
        return {name: network for name, network in networks.items() if network is not None}

    def optimizers(self) -> Mapping[str, OptimizerFactory]:
        """Adam for each network."""
        return dict.fromkeys(self.networks(), partial(torch.optim.Adam, lr=self.lr))

    def forward(self, trajectory: ImaginedTrajectory[Any], model: object) -> Mapping[str, Tensor]:  # noqa: ARG002
        """The term ``irreversibility``, which is zero in row 0; it has a gradient through the trajectory."""
        features = trajectory.features  # [H + 1, N, F]
        before = (torch.arange(1, len(features), device=features.device) - self.steps).clamp_min(0)
        term = self._term(features[before], features[1:])  # [H, N]
        return {"irreversibility": torch.cat([torch.zeros_like(features[:1, :, 0]), term])}

    def recorded(self, experience: Experience[Any], model: object) -> dict[str, Tensor]:  # noqa: ARG002
        """The term in every recorded row, [B, T]; the first rows of an episode are compared with its first one."""
        features, is_first = experience.features, experience.is_first
        rows = torch.arange(is_first.shape[1], device=is_first.device).expand_as(is_first)
        began = torch.where(is_first, rows, 0).cummax(1).values
        before = torch.maximum(rows - self.steps, began)
        term = self._term(features.gather(1, before[..., None].expand_as(features)), features)
        return {"irreversibility": term.masked_fill(before == rows, 0)}

    def _term(self, before: Tensor, after: Tensor) -> Tensor:
        psi = self._precedence.irreversibility(before, after)
        return -self.weight * (psi - self.threshold).clamp_min(0)

    def losses_on(
        self,
        experience: Experience[Any],
        model: Any,
        generator: torch.Generator,
    ) -> LearnerLosses:
        """The loss of psi on pairs of recorded rows, and that of phi on recorded transitions."""
        precedence = self._precedence
        features, others = (self._features(experience, model, generator) for _ in range(2))
        pairs = draw_pairs(features, others, experience.is_first, generator, window=self.window)
        losses = {"precedence": precedence.loss(pairs)}
        taken = experience.demonstrations
        with torch.no_grad():
            psi = precedence.irreversibility(features[:, :-1], others[:, 1:])  # [B, T - 1]
            ordered = precedence(pairs.earlier, pairs.later) > 0
        if self.action_irreversibility is not None:
            loss = self.action_irreversibility.loss(features[:, :-1], taken.action, psi, taken.known)
            losses["action_irreversibility"] = loss
        ordered_share = mean_of_known(ordered.to(psi.dtype), pairs.known)
        return LearnerLosses(losses, {ORDER_ACCURACY: ordered_share, RECORDED: mean_of_known(psi, taken.known)})

    def _features(self, experience: Experience[Any], model: Any, generator: torch.Generator) -> Tensor:
        """Features of the recorded rows, [B, T, F], without gradient."""
        if not self.forgetting:
            return experience.features.detach()
        if experience.batch is None:
            raise ValueError("forgetting needs the recorded rows, but this experience has only their features")
        return forgetful_features(model, experience.batch, generator, share=self.forgetting)

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line if the average recorded step is one-way, as in demonstrations of an expert."""
        if figures.get(RECORDED, 0.0) <= self.threshold:
            return []
        return [
            f"recorded steps look one-way: their mean irreversibility is {figures[RECORDED]:.2f} ({RECORDED}), above "
            f"the threshold {self.threshold:g}, so that the reward punishes what the data do, reversible steps too; "
            "add episodes of a random or mixed policy to the dataset, or raise the threshold"
        ]

    @property
    def _precedence(self) -> Precedence:
        if self.precedence is None:
            raise ValueError("Irreversibility has no networks before set_up")
        return self.precedence


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise UserError(f"{name} of Irreversibility is {value}; allowed: {allowed}; change it")
