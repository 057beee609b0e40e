"""Latent diffusion planning: imitation by a planner of future latents and an inverse dynamics model."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, Learner, LearnerLosses, RewardFunction
from dreamset.behaviors.diffusion.controller import RecedingController
from dreamset.behaviors.diffusion.denoisers import DenoiserFactory
from dreamset.behaviors.diffusion.diffusion import Diffusion
from dreamset.behaviors.diffusion.plans import Actions, LatentPlanner
from dreamset.behaviors.diffusion.ranges import ChangeRange, PlanRange
from dreamset.behaviors.diffusion.windows import Futures, shared_mean
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.behaviors.planning.draws import Generated
from dreamset.behaviors.windows import mean_of_known
from dreamset.core.capabilities import Controller, Dynamics
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec
from dreamset.models.told.critics import TargetCopy

CALIBRATION_BATCHES = 50
HELD_OUT_BATCHES, HELD_OUT_ROWS = 4, 128  # batches, and samples of each
USELESS = 1.0  # a relative error at which a constant would do as well


class LatentDiffusionPlanning(Learner):
    """A planner and an inverse dynamics model by diffusion (Xie et al. 2025), on the latents of any world model.

    The latent z is the features. Two networks learn to predict noise, each at a random step tau. Plans, actions and
    conditions are scaled to [-1, 1] (``ranges``)::

        planner             |eps(z~_{t+1..t+H}; z_t, tau) - noise|^2     rows of demonstrations, with or without actions
        inverse dynamics    |eps(a~_t; z_{t-1}, z_t, tau) - noise|^2     every row with an action, which led to row t

    In its controller a plan of H latents gives the actions between the first E + 1 of them, which are executed before
    it plans again. No reward is used. Latents after the end of an episode have no loss; a start whose window ends
    before its plan is left out.

    Args:
        features: F.
        action: discrete, or continuous with bounds.
        planner: constructs the planner from H, the latent's size and its condition's.
        inverse_dynamics: constructs the inverse dynamics model: 1 row of A numbers, from two latents.
        diffusion: of both networks.
        horizon: H.
        ranges: constructs how plans are scaled from H and the latent's size: ``LatentRange`` as published.
        execute: E.
        skip: leading features that the latent leaves out, such as the deterministic state of an RSSM.
        demonstration_share: weight of demonstrations in the inverse dynamics loss, if a batch has other data, too.
        ema: decay of a slow copy of the networks, which acts instead; 0: no copy.

    Raises:
        UserError: if actions have no bounds, or ``execute`` or ``skip`` are too large.
    """

    uses_unacted = True  # the planner learns from episodes without actions, too
    headline: ClassVar[str] = "diffusion/planner_error"

    def __init__(
        self,
        features: int,
        action: ActionSpec,
        *,
        planner: DenoiserFactory,
        inverse_dynamics: DenoiserFactory,
        diffusion: Diffusion,
        horizon: int,
        ranges: Callable[[int, int], PlanRange] = ChangeRange,
        execute: int = 4,
        skip: int = 0,
        demonstration_share: float = 0.5,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        require_plannable(action, features=features, horizon=horizon, execute=execute, skip=skip)
        size = features - skip
        self.planner = planner(horizon, size, size)
        self.inverse_dynamics = inverse_dynamics(1, action.size, 2 * size)
        self.diffusion = diffusion
        self.ranges = ranges(horizon, size)
        self.actions = Actions(action)
        self.horizon, self.execute, self.skip = horizon, execute, skip
        self.demonstration_share = demonstration_share
        slow = {name: TargetCopy(network, rate=1 - ema) for name, network in self.networks().items()} if ema else {}
        self.slow = nn.ModuleDict(slow)

    def networks(self) -> Mapping[str, nn.Module]:
        """Planner and inverse dynamics model."""
        return {"planner": self.planner, "inverse_dynamics": self.inverse_dynamics}

    def calibrate(self, recorded: Iterable[Experience[Any]], model: object) -> None:  # noqa: ARG002
        """Widens the ranges by recorded batches, so that they change little while the networks learn."""
        if not self.ranges.known:
            for experience in islice(recorded, CALIBRATION_BATCHES):
                self._recorded(experience)

    def losses_on(
        self,
        experience: Experience[Any],
        model: object,  # noqa: ARG002 - it learns from recorded rows alone
        reward: RewardFunction,  # noqa: ARG002
        generator: torch.Generator,
    ) -> LearnerLosses:
        """The losses on the recorded rows; see ``Learner``. The ranges widen to include every row.

        Raises:
            UserError: if a window has no room for a plan.
        """
        latent, futures = self._recorded(experience)
        planner = self._planner_loss(experience, latent, futures, generator)
        inverse = self._inverse_dynamics_loss(experience, latent, generator)
        figures = {self.headline: planner.detach(), "diffusion/inverse_dynamics_error": inverse.detach()}
        return LearnerLosses({"planner": planner, "inverse_dynamics": inverse}, figures)

    def _recorded(self, experience: Experience[Any]) -> tuple[Tensor, Futures]:
        """The latents [B, T, Z] and their futures, which the ranges then include."""
        latent = experience.features[..., self.skip :]
        futures = self._futures(experience, latent)
        self.ranges.widen(latent, futures.rows)
        return latent, futures

    def _planner_loss(
        self, experience: Experience[Any], latent: Tensor, futures: Futures, generator: torch.Generator
    ) -> Tensor:
        """The mean squared error of the noise in the known latents after each usable row of a demonstration."""
        usable = futures.complete & experience.demonstration
        known, condition = futures.known[usable], self.ranges.condition(latent[usable])
        plan = self.ranges.to_plan(latent[usable], futures.rows[usable])
        errors = self.diffusion.errors(lambda noisy, step: self.planner(noisy, condition, step), plan, generator)
        return mean_of_known(errors.mean(-1), known)

    def _inverse_dynamics_loss(self, experience: Experience[Any], latent: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error of the noise in the actions; demonstrations have a share of their own."""
        before, after, action, known = self._pairs(experience, latent)
        pairs = self.ranges.pair(before, after).flatten(0, 1)
        target = self.actions.encode(action)[..., None, :].flatten(0, 1)
        errors = self.diffusion.errors(lambda noisy, step: self.inverse_dynamics(noisy, pairs, step), target, generator)
        shown = experience.demonstration[:, 1:]
        values = errors.mean((-2, -1)).reshape(known.shape)
        return shared_mean(values, known & shown, known & ~shown, share=self.demonstration_share)

    def _futures(self, experience: Experience[Any], latent: Tensor) -> Futures:
        batch, rows = experience.batch, latent.shape[1]
        if rows <= self.horizon:
            raise UserError(
                f"behavior_training.batch.length is {rows}; a plan of imagination.horizon={self.horizon} rows needs "
                f"windows of at least {self.horizon + 1}; raise the first or lower the second"
            )
        is_last = torch.zeros_like(experience.is_first) if batch is None else batch.is_last
        return Futures.of(latent, experience.is_first, is_last, self.horizon)

    def _pairs(self, experience: Experience[Any], latent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents of rows t - 1 and t, [B, T - 1, Z] each, the action [B, T - 1, A] between them, and if it is known.

        By the time rule this action is that of row t.
        """
        known = ~experience.is_first[:, 1:] & experience.acted[:, 1:]
        return latent[:, :-1], latent[:, 1:], experience.action[:, 1:], known

    @torch.no_grad()
    def held_out(
        self,
        recorded: Iterable[Experience[Any]],
        model: object,  # noqa: ARG002
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Errors of samples on held-out rows.

        ``held_out/action_error``: squared error of the actions between recorded latents, as a share of the actions'
        variance. ``held_out/plan_error``: squared error of the planned latents, as a share of the squared distance
        between the recorded latents and the present one.
        """
        plans, actions, latents = self.plans(), Errors(), Errors()
        for experience in islice(recorded, HELD_OUT_BATCHES):
            latent = plans.latent(experience.features)
            *pairs, known = self._pairs(experience, latent)
            before, after, action = (value[known][:HELD_OUT_ROWS] for value in pairs)
            actions.add(plans.between(before, after, Generated(len(before), before, generator)), action)
            start, changes = self._complete_plans(experience, latent)
            planned = plans.futures(start, Generated(len(start), start, generator))
            latents.add(planned - start[:, None], changes)
        figures = {"action_error": actions.share_of_variance(), "plan_error": latents.share_of_squares()}
        return {f"held_out/{name}": share for name, share in figures.items() if share is not None}

    def _complete_plans(self, experience: Experience[Any], latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [M, Z] of demonstrations, and the changes from them to each of the next H latents, [M, H, Z]."""
        futures = self._futures(experience, latent)
        usable = futures.known.all(-1) & experience.demonstration
        start = latent[usable][:HELD_OUT_ROWS]
        return start, futures.rows[usable][:HELD_OUT_ROWS] - start[:, None]

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """Lines on held-out errors that a constant would have, too."""
        lines = []
        if figures.get("held_out/action_error", 0.0) >= USELESS:
            lines.append(
                "the inverse dynamics model knows no more than the mean action "
                f"(held_out/action_error {figures['held_out/action_error']:.2f}): two latents in a row do not tell the "
                "action, or training was too short; raise behavior_training.updates, or take another world_model"
            )
        if figures.get("held_out/plan_error", 0.0) >= USELESS:
            lines.append(
                "planned latents are no nearer to the recorded ones than the present latent is (held_out/plan_error "
                f"{figures['held_out/plan_error']:.2f}); raise behavior_training.updates, or record more demonstrations"
            )
        return lines

    def label(self, before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
        """Actions [N, A] in [-1, 1], or one-hot, that lead from features [N, F] to the features of the next row."""
        plans = self.plans()
        return plans.between(plans.latent(before), plans.latent(after), Generated(len(before), before, generator))

    def plans(self) -> LatentPlanner:
        """The networks that act: the slow copies, if there are any."""
        return LatentPlanner(
            self._acting("planner"),
            self._acting("inverse_dynamics"),
            diffusion=self.diffusion,
            ranges=self.ranges,
            action=self.actions.spec,
            execute=self.execute,
            skip=self.skip,
        )

    def _acting(self, name: str) -> nn.Module:
        if name not in self.slow:
            return self.networks()[name]
        slow = self.slow[name]
        assert isinstance(slow, TargetCopy)
        return slow.copy

    def controller(self, model: Any, *, exploration: Exploration = mode) -> Controller[Any]:
        """Samples plans, and executes E actions of each."""
        return RecedingController(model, self.plans(), exploration=exploration)

    def imagine(
        self,
        model: Any,
        start: Any,
        *,
        horizon: int,
        generator: torch.Generator,
        on_step: Callable[[], None] = lambda: None,
    ) -> ImaginedTrajectory[Any] | None:
        """Imagines the executed actions; None if the model has no dynamics."""
        if not isinstance(model, Dynamics):
            return None
        controller = RecedingController(model, self.plans())
        return controller.imagine(start, horizon=horizon, generator=generator, on_step=on_step)

    def after_update(self) -> None:
        """Moves the slow copies towards the networks."""
        networks = self.networks()
        for name, slow in self.slow.items():
            assert isinstance(slow, TargetCopy)
            slow.update(networks[name])


class Errors:
    """Differences between predictions and what was recorded, gathered over batches."""

    def __init__(self) -> None:
        self.predicted: list[Tensor] = []
        self.recorded: list[Tensor] = []

    def add(self, predicted: Tensor, recorded: Tensor) -> None:
        """More rows, shaped alike."""
        self.predicted.append(predicted)
        self.recorded.append(recorded)

    def share_of_variance(self) -> Tensor | None:
        """The sum of squared errors over the squared distances of the recorded values from their mean."""
        recorded = torch.cat(self.recorded)
        return self._share(recorded - recorded.mean(0))

    def share_of_squares(self) -> Tensor | None:
        """The sum of squared errors over that of zeros."""
        return self._share(torch.cat(self.recorded))

    def _share(self, of: Tensor) -> Tensor | None:
        scale = of.square().sum()
        return (torch.cat(self.predicted) - torch.cat(self.recorded)).square().sum() / scale if scale > 0 else None


def require_plannable(action: ActionSpec, *, features: int, horizon: int, execute: int, skip: int) -> None:
    """Checks that actions have bounds, and that numbers fit each other.

    Raises:
        UserError: otherwise.
    """
    if not action.discrete and not action.bounded:
        raise UserError(
            f"latent diffusion planning samples actions in [-1, 1], but the dataset's actions have no bounds: "
            f"{action.low} to {action.high}; give the dataset's actions finite bounds or use another behavior"
        )
    if not 1 <= execute <= horizon:
        raise UserError(
            f"behavior.execute is {execute}; allowed: 1 to imagination.horizon={horizon}, the rows of a plan; set it "
            "in this range"
        )
    if not 0 <= skip < features:
        raise UserError(
            f"behavior.skip is {skip}; allowed: 0 to {features - 1}, because the world model has {features} features; "
            "set it in this range"
        )
