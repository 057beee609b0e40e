"""Plan optimisers: search for the sequence of actions with the highest score.

They know no model. A ``Score`` rates candidates, and everything else is arithmetic on tensors without a branch on a
value, so that a planner can be traced into a program. All random numbers come from an argument.

Shapes: N states that plan at once, J candidates, K elites, H steps, A elements of an action, I iterations. Continuous
actions are in [-1, 1]; no candidate and no mean leaves this box.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.distributions import noise_of_kind

Score = Callable[[Tensor], Tensor]  # candidates [N, J, H, A] -> scores [N, J], of which higher ones are better
Draw = Callable[..., Tensor]  # sizes (K, ...) -> standard normal numbers [N, K, ...], new ones in every call


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of a search: a distribution over plans, and its best candidates."""

    mean: Tensor  # [N, H, A] in [-1, 1], or one-hot
    spread: Tensor  # [N, H, A] standard deviation, or probability of each choice
    elites: Tensor  # [N, K, A] first actions of the best candidates
    weights: Tensor  # [N, K] of the elites; they sum to one


class PlanOptimizer(ABC):
    """A search from a first guess.

    Args:
        horizon: H, steps of a plan.
        candidates: J of every iteration, without proposals.
        elites: K, how many of the best ones shape the next iteration.
        iterations: I.

    Raises:
        UserError: if a number is below 1, or there are more elites than candidates.
    """

    def __init__(self, *, horizon: int, candidates: int, elites: int, iterations: int) -> None:
        for name, value in (("horizon", horizon), ("candidates", candidates), ("iterations", iterations)):
            if value < 1:
                raise UserError(f"acting.optimizer.{name} is {value}; allowed: 1 or more")
        if not 1 <= elites <= candidates:
            raise UserError(
                f"acting.optimizer.elites is {elites}; allowed: 1 to {candidates}, the number of candidates; choose "
                "fewer elites or more candidates"
            )
        self.horizon, self.candidates, self.elites, self.iterations = horizon, candidates, elites, iterations

    differentiates = False  # whether it needs the score's gradient, which no traced program has

    def require(self, action: ActionSpec) -> None:
        """Checks that this optimiser can search such actions.

        Raises:
            UserError: if they are discrete, or continuous without bounds.
        """
        if action.discrete:
            raise UserError(
                f"{type(self).__name__} searches continuous actions, but those of the dataset are discrete; choose "
                "acting/optimizer=categorical_cem"
            )
        if not action.bounded:
            raise UserError(
                f"{type(self).__name__} searches between bounds, but the dataset's actions have none: {action.low} to "
                f"{action.high}; give the dataset's actions finite bounds"
            )

    def initial(self, like: Tensor, action_size: int) -> Tensor:
        """The first guess without an earlier plan, [N, H, A]; ``like`` is [N, ...]."""
        return like.new_zeros(like.shape[0], self.horizon, action_size)

    def shifted(self, mean: Tensor) -> Tensor:
        """The rest of an earlier plan as the next guess: without its first action, and the last one repeated."""
        return torch.cat([mean[:, 1:], mean[:, -1:]], dim=1)

    def sample(self, plan: Plan, noise: Tensor) -> Tensor:
        """An action to explore with, [N, A]: an elite's, drawn by weight, plus noise of the plan's spread (TD-MPC).

        Args:
            plan: the outcome of a search.
            noise: [N, 1 + A] standard normal; the first number draws the elite.
        """
        return (self._drawn(plan, noise) + plan.spread[:, 0] * noise[:, 1:]).clamp(-1, 1)

    @staticmethod
    def _drawn(plan: Plan, noise: Tensor) -> Tensor:
        uniform = noise_of_kind("uniform", noise[:, :1])
        before = (plan.weights.cumsum(1) <= uniform).sum(1).clamp_max(plan.weights.shape[1] - 1)  # [N]
        return plan.elites[torch.arange(len(before), device=before.device), before]

    @abstractmethod
    def __call__(self, score: Score, guess: Tensor, draw: Draw, proposals: Tensor | None = None) -> Plan:
        """Searches.

        Args:
            score: rates candidates.
            guess: [N, H, A] where the search begins.
            draw: source of all random numbers.
            proposals: [N, P, H, A] candidates of a policy, which take part in every iteration.
        """

    def _normal(self, draw: Draw, guess: Tensor) -> Tensor:
        """The random numbers of one iteration: [N, J, H, A]."""
        return draw(self.candidates, *guess.shape[1:])


class CEM(PlanOptimizer):
    """The cross-entropy method: refits a normal to the best candidates (PlaNet, algorithm 2 and appendix A).

    Candidates are clip(mean + std * noise, -1, 1). Mean and standard deviation of the K best, with divisor K, are those
    of the next iteration. ``initial_std`` is 1 in the paper. Its algorithm writes a mean absolute deviation, the
    published code takes this standard deviation.

    Args:
        initial_std: of the first iteration.
        min_std: least standard deviation; keeps the search going if all elites are equal.
        **search: see ``PlanOptimizer``.
    """

    def __init__(self, *, initial_std: float = 1.0, min_std: float = 1e-3, **search: int) -> None:
        super().__init__(**search)
        self.initial_std, self.min_std = initial_std, min_std

    def __call__(self, score: Score, guess: Tensor, draw: Draw, proposals: Tensor | None = None) -> Plan:
        """See ``PlanOptimizer``."""
        mean, std = guess, torch.full_like(guess, self.initial_std)
        best = torch.empty(0)
        for _ in range(self.iterations):
            candidates = (mean[:, None] + std[:, None] * self._noise(draw, guess)).clamp(-1, 1)
            if proposals is not None:
                candidates = torch.cat([candidates, proposals], dim=1)
            best = _best(candidates, score(candidates), self.elites)[0]
            mean = best.mean(dim=1)
            std = (best - mean[:, None]).square().mean(dim=1).sqrt().clamp_min(self.min_std)
        return Plan(mean, std, best[:, :, 0], torch.full_like(best[:, :, 0, 0], 1 / self.elites))

    def _noise(self, draw: Draw, guess: Tensor) -> Tensor:
        """Noise of unit variance for the candidates of one iteration, [N, J, H, A]."""
        return self._normal(draw, guess)


class ColoredCEM(CEM):
    """CEM whose noise is correlated in time, so that candidates keep a direction (iCEM, Pinneri et al. 2020, 2.1).

    The noise of a step has the power spectrum 1 / f^beta: 0 is white noise, 2 a random walk. Every step keeps unit
    variance. Of iCEM's other parts, the shifted plan is the controller's, and elites are not kept.

    Args:
        beta: exponent of the spectrum.
        **settings: see ``CEM``.
    """

    def __init__(self, *, beta: float = 2.0, **settings: float) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        if beta < 0:
            raise UserError(f"acting.optimizer.beta is {beta}; allowed: 0 or more")
        self.beta = beta

    def _noise(self, draw: Draw, guess: Tensor) -> Tensor:
        white = self._normal(draw, guess)
        return torch.einsum("st,njta->njsa", self.filter(white), white)

    def filter(self, like: Tensor) -> Tensor:
        """[H, H]: white noise [H] to noise with the spectrum 1 / f^beta and unit variance at every step.

        The circulant filter of the real spectrum: its rows are shifts of one impulse response of unit norm.
        """
        steps = self.horizon
        index = torch.arange(steps, device=like.device)
        frequency = torch.minimum(index, steps - index).clamp_min(1).to(torch.float64)  # of a period of H steps
        gain = frequency ** (-self.beta / 2)
        lag = index[:, None] - index[None, :]
        waves = torch.cos(2 * torch.pi / steps * (lag[..., None] * index).double())
        matrix = (waves * gain).sum(-1)
        return (matrix / matrix.square().sum(1, keepdim=True).sqrt()).to(like.dtype)


class MPPI(PlanOptimizer):
    """Model predictive path integrals with clamped spread (TD-MPC2, Hansen et al. 2024, and its published code).

    The K best candidates have the weights exp(temperature * (score - best score)), normalised. Their weighted mean and
    standard deviation, the latter between ``min_std`` and ``max_std``, are those of the next iteration.

    Args:
        temperature: inverse temperature; 0.5 in both versions.
        min_std: least standard deviation.
        max_std: largest, and that of the first iteration.
        momentum: share of the previous mean in the next one; 0.1 in TD-MPC, 0 in TD-MPC2.
        **search: see ``PlanOptimizer``.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        min_std: float = 0.05,
        max_std: float = 2.0,
        momentum: float = 0.0,
        **search: int,
    ) -> None:
        super().__init__(**search)
        self.temperature, self.momentum = temperature, momentum
        self.min_std, self.max_std = min_std, max_std

    def __call__(self, score: Score, guess: Tensor, draw: Draw, proposals: Tensor | None = None) -> Plan:
        """See ``PlanOptimizer``."""
        mean, std = guess, torch.full_like(guess, self.max_std)
        best = weights = torch.empty(0)
        for _ in range(self.iterations):
            candidates = (mean[:, None] + std[:, None] * self._normal(draw, guess)).clamp(-1, 1)
            if proposals is not None:
                candidates = torch.cat([candidates, proposals], dim=1)
            best, scores = _best(candidates, score(candidates), self.elites)
            weights = torch.softmax(self.temperature * (scores - scores[:, :1]), dim=1)
            average = (weights[..., None, None] * best).sum(1)
            deviation = (weights[..., None, None] * (best - average[:, None]).square()).sum(1).sqrt()
            mean = self.momentum * mean + (1 - self.momentum) * average
            std = deviation.clamp(self.min_std, self.max_std)
        return Plan(mean, std, best[:, :, 0], weights)


class CategoricalCEM(PlanOptimizer):
    """The cross-entropy method for one-hot actions: refits the probabilities of every step.

    Candidates are drawn by the Gumbel-max rule from the probabilities; those of the next iteration are the shares of
    the choices among the K best, mixed with ``smoothing`` of a uniform choice, so that none is ruled out for ever.

    Args:
        smoothing: share of the uniform choice, 0 to 1.
        **search: see ``PlanOptimizer``.
    """

    def __init__(self, *, smoothing: float = 0.1, **search: int) -> None:
        super().__init__(**search)
        if not 0 <= smoothing <= 1:
            raise UserError(f"acting.optimizer.smoothing is {smoothing}; allowed: 0 to 1")
        self.smoothing = smoothing

    def require(self, action: ActionSpec) -> None:
        """Checks that actions are discrete."""
        if not action.discrete:
            raise UserError(
                "CategoricalCEM searches discrete actions, but those of the dataset are continuous; choose "
                "acting/optimizer=cem"
            )

    def initial(self, like: Tensor, action_size: int) -> Tensor:
        """Equal probabilities."""
        return like.new_full((like.shape[0], self.horizon, action_size), 1 / action_size)

    def sample(self, plan: Plan, noise: Tensor) -> Tensor:
        """The choice of an elite, drawn by weight, [N, A]; see ``PlanOptimizer.sample``."""
        return self._drawn(plan, noise)

    def __call__(self, score: Score, guess: Tensor, draw: Draw, proposals: Tensor | None = None) -> Plan:
        """See ``PlanOptimizer``; ``guess`` are probabilities, or one-hot."""
        choices = guess.shape[-1]
        probabilities = self._mixed(guess)
        best = torch.empty(0)
        for _ in range(self.iterations):
            gumbel = noise_of_kind("gumbel", self._normal(draw, guess))
            index = (probabilities[:, None].log() + gumbel).argmax(-1)
            candidates = torch.nn.functional.one_hot(index, choices).to(guess.dtype)
            if proposals is not None:
                candidates = torch.cat([candidates, proposals], dim=1)
            best = _best(candidates, score(candidates), self.elites)[0]
            shares = best.mean(dim=1)
            probabilities = self._mixed(shares)
        mean = torch.nn.functional.one_hot(shares.argmax(-1), choices).to(guess.dtype)
        return Plan(mean, probabilities, best[:, :, 0], torch.full_like(best[:, :, 0, 0], 1 / self.elites))

    def _mixed(self, probabilities: Tensor) -> Tensor:
        uniform = 1 / probabilities.shape[-1]
        return (1 - self.smoothing) * probabilities + self.smoothing * uniform


class GradientPlanner(PlanOptimizer):
    """Gradient ascent on the score by Adam, from the guess and from random starts, for differentiable models.

    ``candidates`` plans climb at once for ``iterations`` steps, and the best ``elites`` are averaged with equal
    weights; 1 takes the best one. Actions are clipped to the box after each step.

    Args:
        lr: step size of Adam.
        initial_std: of the random starts around the guess; the first plan starts at the guess itself.
        **search: see ``PlanOptimizer``.
    """

    differentiates = True

    def __init__(self, *, lr: float = 0.1, initial_std: float = 0.5, **search: int) -> None:
        super().__init__(**search)
        self.lr, self.initial_std = lr, initial_std

    def __call__(self, score: Score, guess: Tensor, draw: Draw, proposals: Tensor | None = None) -> Plan:
        """See ``PlanOptimizer``."""
        first = torch.arange(self.candidates, device=guess.device)[:, None, None] == 0
        noise = self._normal(draw, guess).masked_fill(first, 0)
        starts = (guess[:, None] + self.initial_std * noise).clamp(-1, 1)
        if proposals is not None:
            starts = torch.cat([starts, proposals], dim=1)
        plans = self._climb(score, starts)
        best, _ = _best(plans, score(plans).detach(), self.elites)
        mean = best.mean(dim=1)
        spread = (best - mean[:, None]).square().mean(dim=1).sqrt()
        return Plan(mean, spread, best[:, :, 0], torch.full_like(best[:, :, 0, 0], 1 / self.elites))

    def _climb(self, score: Score, plans: Tensor) -> Tensor:
        """Adam's steps (Kingma and Ba 2015, algorithm 1) up the score of every plan."""
        momentum, power = torch.zeros_like(plans), torch.zeros_like(plans)
        for step in range(1, self.iterations + 1):
            with torch.enable_grad():
                moving = plans.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(score(moving).sum(), moving)
            gradient = gradient.nan_to_num()
            momentum = 0.9 * momentum + 0.1 * gradient
            power = 0.999 * power + 0.001 * gradient.square()
            ascent = (momentum / (1 - 0.9**step)) / ((power / (1 - 0.999**step)).sqrt() + 1e-8)
            plans = (plans + self.lr * ascent).clamp(-1, 1)
        return plans.detach()


def _best(candidates: Tensor, scores: Tensor, elites: int) -> tuple[Tensor, Tensor]:
    """The K candidates with the highest scores, best first, and their scores; a score that is NaN counts as lowest."""
    lowest = torch.finfo(scores.dtype).min
    ranked = scores.nan_to_num(nan=lowest).clamp_min(lowest)
    top = ranked.topk(elites, dim=1)
    index = top.indices[..., None, None].expand(-1, -1, *candidates.shape[2:])
    return candidates.gather(1, index), top.values
