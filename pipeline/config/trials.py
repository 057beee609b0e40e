"""Builds the optimisers and schedules of a configuration once, for a parameter that nobody trains.

Their libraries check values that no annotation describes, such as betas below 1. Without a trial, such a mistake would
end a later stage, after hours of training in earlier ones.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.config.mistakes import Mistake


def mistakes(config: Mapping[str, Any]) -> Iterator[Mistake]:
    """The optimisers and schedules that cannot be built. All other checks must have passed."""
    world_model, behavior = config["world_model_training"], config["behavior_training"]["optimizers"]
    optimizers = {"world_model_training.optimizer": world_model["optimizer"]} | {
        f"behavior_training.optimizers.{name}": node for name, node in behavior.items()
    }
    schedulers = {
        "world_model_training.scheduler": world_model["scheduler"],
        "finetuning.scheduler": config["finetuning"]["scheduler"],
    }
    for key, node in optimizers.items():
        yield from _trial(key, node, _parameters)
    for key, node in schedulers.items():
        yield from _trial(key, node, _optimizer)


def _trial(key: str, node: Mapping[str, Any] | None, argument: Callable[[], object]) -> Iterator[Mistake]:
    if node is None:
        return
    from dreamset.pipeline.config.instantiate import build_part  # loads Hydra's instantiation

    try:
        build_part(node)(argument())
    except (TypeError, ValueError, UserError) as error:
        reason = " ".join(str(error).split()).removeprefix("configuration: ")
        yield Mistake(key, f"cannot be built: {reason}; change its arguments")


def _parameters() -> list[Any]:
    import torch  # the optimisers have loaded it

    return [torch.nn.Parameter(torch.zeros(2, 2))]


def _optimizer() -> Any:
    import torch

    return torch.optim.SGD(_parameters(), lr=1.0)
