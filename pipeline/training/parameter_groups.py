"""Parameter groups: each part of a world model has its own learning rate, or is frozen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dreamset.core.capabilities import Trainable
from dreamset.core.errors import UserError
from dreamset.core.parameters import OptimizerFactory
from dreamset.objectives.base import Objective

SchedulerFactory = Callable[[Optimizer], LRScheduler]
Factors = Mapping[str, float]  # part, or module below one, such as dynamics.from_embedding -> factor on the rate

OBJECTIVE = "objective"
KEYS = "the factors on learning rates (adaptation, world_model_training.factors or finetuning.factors)"  # in messages


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters with the same learning rate."""

    factor: float  # on the optimiser's rate
    parameters: Sequence[Tensor]


def learning_groups(model: Trainable[Any], objective: Objective, factors: Factors) -> list[Group]:
    """The trained parameters, grouped by learning rate. All others are frozen, so they need no gradient.

    Raises:
        UserError: for an unknown part, an invalid factor, or if every part is frozen.
    """
    parts: dict[str, nn.Module | None] = {**model.parts(), OBJECTIVE: objective}
    named = {
        f"{part}.{key}": parameter
        for part, module in parts.items()
        if module is not None
        for key, parameter in module.named_parameters()
    }
    _check(factors, list(parts), named)
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in named.items():
        if not parameter.requires_grad:  # a weight of a target network
            continue
        factor = factor_of(name, factors)
        if factor > 0:
            groups.setdefault(factor, []).append(parameter)
        else:
            parameter.requires_grad_(False)
    if not groups:
        raise UserError(
            f"the factors freeze every part of the world model ({dict(factors)}); set the factor of a part above 0, or "
            "use the model without training: world_model_training.updates=0 and no adaptation"
        )
    return [Group(factor, parameters) for factor, parameters in groups.items()]


def factor_of(name: str, factors: Factors) -> float:
    """The factor of the parameter ``name``: that of the innermost module with a factor, otherwise 1."""
    above = [key for key in factors if f"{name}.".startswith(f"{key}.")]
    return factors[max(above, key=len)] if above else 1.0


def learns(part: str, factors: Factors) -> bool:
    """Whether any parameter of ``part`` is trained."""
    below = (factor for key, factor in factors.items() if key.startswith(f"{part}."))
    return factor_of(part, factors) > 0 or any(factor > 0 for factor in below)


def build_optimizer(make: OptimizerFactory, groups: Sequence[Group]) -> Optimizer:
    """The optimiser. The learning rate of each group is its factor times the optimiser's own rate."""
    optimizer = make([{"params": list(group.parameters)} for group in groups])
    for made, group in zip(optimizer.param_groups, groups, strict=True):
        made["lr"] *= group.factor
    return optimizer


def build_scheduler(make: SchedulerFactory, optimizer: Optimizer, groups: Sequence[Group]) -> LRScheduler:
    """The learning rate schedule of all groups.

    Raises:
        UserError: if groups have factors, and the schedule sets learning rates instead of multiplying them.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = make(optimizer)
    initial = [group.get("initial_lr", rate) for group, rate in zip(optimizer.param_groups, rates, strict=True)]
    if initial != rates and any(group.factor != 1 for group in groups):
        raise UserError(
            f"{type(scheduler).__name__} sets learning rates of its own, which would undo the factors on them; "
            "use a scheduler that multiplies them, such as torch.optim.lr_scheduler.LinearLR"
        )
    return scheduler


def _check(factors: Factors, parts: Sequence[str], named: Mapping[str, Tensor]) -> None:
    unknown = [key for key in factors if key not in parts and not any(name.startswith(f"{key}.") for name in named)]
    if unknown:
        raise UserError(
            f"{KEYS} name {', '.join(unknown)}, which the world model does not have; allowed: {', '.join(parts)}, "
            "and modules in them, such as dynamics.from_embedding; change the name"
        )
    wrong = {key: value for key, value in factors.items() if not _is_factor(value)}
    if wrong:
        raise UserError(f"{KEYS} have the values {wrong}; allowed: numbers of 0 or more; change them")


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
