"""Builds the optimisers, the schedules, the planner and the rewards of a configuration once, without a network.

Their constructors check values that no annotation describes, such as betas below 1, or more elites than candidates.
Without a trial, such a mistake would end a later stage, after hours of training in earlier ones.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.config.mistakes import Mistake, below


def mistakes(config: Mapping[str, Any]) -> Iterator[Mistake]:
    """The parts of ``_trials`` that cannot be built. All other checks must have passed."""
    for key, build in _trials(config):
        try:
            build()
        except (TypeError, ValueError, UserError) as error:
            yield _mistake(key, " ".join(str(error).split()))


def _mistake(key: str, reason: str) -> Mistake:
    """A reason that begins with a key of the part is complete, as ``acting.optimizer.elites is 9; allowed: ...``."""
    own, _, finding = reason.partition(" ")
    if below(own, key):
        return Mistake(own, finding)
    remedy = "" if ";" in reason else "; change its arguments"  # our own reasons name a remedy after a semicolon
    return Mistake(key, f"cannot be built: {reason.removeprefix('configuration: ')}{remedy}")


def _trials(config: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each part that is not null, by its key, as a function that builds it."""
    world_model, behavior = config["world_model_training"], config["behavior_training"]["optimizers"]
    optimizers = {"world_model_training.optimizer": world_model["optimizer"]} | {
        f"behavior_training.optimizers.{name}": node for name, node in behavior.items()
    }
    schedulers = {
        "world_model_training.scheduler": world_model["scheduler"],
        "finetuning.scheduler": config["finetuning"]["scheduler"],
    }
    for nodes, argument in ((optimizers, _parameters), (schedulers, _optimizer)):
        for key, node in nodes.items():
            if node is not None:
                yield key, partial(_called, node, argument)
    if config["acting"] is not None:
        yield "acting", partial(_built, config["acting"])
    yield "reward", partial(_reward, config["reward"], config, "behavior_training")
    explorer = config["finetuning"]["explorer"]
    if explorer is not None:
        yield "finetuning.explorer.reward", partial(_reward, explorer["reward"], config, "finetuning")


def _reward(node: Mapping[str, Any], config: Mapping[str, Any], training: str) -> None:
    """Builds a reward function, and checks that its networks can learn from the windows of ``training``."""
    from dreamset.behaviors.base import RewardFunction  # building the reward loads it, too

    reward, length = _built(node), config[training]["batch"]["length"]
    if not isinstance(reward, RewardFunction):
        raise UserError(f"{type(reward).__name__} is no RewardFunction; inherit from dreamset.RewardFunction")
    if reward.rows > length:
        raise UserError(
            f"it learns from windows of {reward.rows} rows or more, but {training}.batch.length is {length}; raise the "
            "length, or lower the reward's window"
        )


def _built(node: Mapping[str, Any]) -> Any:
    from dreamset.pipeline.config.instantiate import build_part  # loads Hydra's instantiation

    return build_part(node)


def _called(node: Mapping[str, Any], argument: Callable[[], object]) -> object:
    return _built(node)(argument())


def _parameters() -> list[Any]:
    import torch  # the optimisers have loaded it

    return [torch.nn.Parameter(torch.zeros(2, 2))]


def _optimizer() -> Any:
    import torch

    return torch.optim.SGD(_parameters(), lr=1.0)
