"""Records losses of twenty tiny updates of every generation with every objective, for tests/golden/test_updates.py."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from dreamset.models.recurrent.world_model import WorldModel
from dreamset.objectives.base import Objective
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import LearnerTraining, WorldModelTraining
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded, tiny_batch, tiny_config, tiny_spec

ASSET = Path(__file__).with_name("updates.json")
UPDATES = 20
GENERATIONS = {
    "dreamer_v1": ("world_model=dreamer_v1", "behavior=dreamer_v1"),
    "dreamer_v1_continue": ("world_model=dreamer_v1_continue", "behavior=dreamer_v1"),
    "dreamer_v2": ("world_model=dreamer_v2", "behavior=dreamer_v2"),
    "dreamer_v2_atari": ("world_model=dreamer_v2_atari", "behavior=dreamer_v2_atari"),
    "dreamer_v3": ("world_model=dreamer_v3", "behavior=dreamer_v3"),
    "dreamer_v2_pessimistic": (
        *("world_model=dreamer_v2", "world_model/ensemble=priors", "behavior=dreamer_v2"),
        *("reward=mean_disagreement", "reward/weight=tuned"),
    ),
    "dreamer_v3_cloning": ("world_model=dreamer_v3", "behavior=dreamer_v3", "behavior.cloning_weight=0.5"),
}
OBJECTIVES = ("reconstruction", "contrastive", "reward_only")


def cases() -> Iterator[tuple[str, str]]:
    """Generation and objective of every recorded sequence."""
    return ((generation, objective) for generation in GENERATIONS for objective in OBJECTIVES)


def losses(generation: str, objective: str) -> dict[str, list[float]]:
    """All losses by name, with one number per update: of a world model, then of a behaviour that is learned in it."""
    config = tiny_config(*GENERATIONS[generation], f"objective={objective}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: WorldModel = build_part(config["world_model"], tiny_spec())
        part: Objective = build_part(config["objective"], model)
        behavior = build_part(config["behavior"], model.feature_size, tiny_spec().action)
    training = WorldModelTraining.model_validate(config["world_model_training"])
    trainer = WorldModelTrainer.configured(
        training, model, part, scheduler=training.scheduler, generator=seeded(1), factors=None
    )
    rows = [trainer.step(tiny_batch(seed=number)) for number in range(UPDATES)]
    behavior_training = LearnerTraining.model_validate(config["behavior_training"])
    learner = BehaviorTrainer.configured(
        behavior_training, model, behavior, build_part(config["reward"]), generator=seeded(2)
    )
    learned = [learner.step(tiny_batch(seed=number)) for number in range(UPDATES)]
    return {**_columns("world_model", rows), **_columns("behavior", learned)}


def _columns(part: str, rows: list[dict[str, torch.Tensor]]) -> dict[str, list[float]]:
    return {f"{part}/{name}": [float(f"{row[name].item():.9g}") for row in rows] for name in rows[0]}


def main() -> None:
    """Records all cases: ``python -m tests.golden.updates``, after an intended change of the numbers."""
    recorded = {f"{generation} {objective}": losses(generation, objective) for generation, objective in cases()}
    ASSET.write_text(json.dumps(recorded, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
