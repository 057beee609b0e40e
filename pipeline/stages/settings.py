"""What each stage is told, and nothing else: the typed contents of the files in ``resolved/``."""

import json
from typing import Any, Self

from dreamset.pipeline.config.settings import (
    Device,
    Evaluation,
    Factors,
    Finetuning,
    Ingest,
    LearnerOptimisation,
    LearnerTraining,
    Part,
    Recording,
    Reference,
    Section,
    Split,
    Text,
    Validation,
    Whole,
    WorldModelOptimisation,
    WorldModelTraining,
)


class StageSettings(Section):
    """A stage's settings, frozen; a key that the stage does not know is a mistake."""

    code: Text | None = None  # digest of the code that the stage depends on, once that is computed

    @classmethod
    def of(cls, **values: Any) -> Self:
        """From plain values, as the composed configuration and yaml have them."""
        return cls.model_validate_json(json.dumps(values), strict=True)

    def plain(self) -> dict[str, Any]:
        """As yaml."""
        return self.model_dump(exclude={"code"} if self.code is None else None)


class Collect(StageSettings):
    """Where a dataset is recorded, or where it lies."""

    dataset: Text
    recording: Recording | None
    environment: Part | None
    reference: Reference | None
    fetch: Part | None
    source_path: str | None
    output: Text


class IngestDataset(StageSettings):
    """A source, what is done to its episodes, and where the store goes."""

    dataset: Text
    source: Part
    transforms: list[Part]
    on_invalid: Text
    split: Split
    settings: Ingest
    output: Text
    card: Text


class Start(Section):
    """A world model that exists, pinned by its digest, and how fast its parts learn."""

    digest: Text
    name: str | None
    version: int | None
    run: str | None
    folder: str | None
    strict: bool
    adaptation: Factors


class TrainWorldModel(StageSettings):
    """One objective's world model."""

    objective_name: Text
    seed: Whole
    device: Device
    dataset: Text
    objective: Part
    world_model: Part
    generation: Text
    start: Start | None
    training: WorldModelTraining
    validation: Validation
    store: Text
    checkpoints: Text
    output: Text


class LearnBehavior(StageSettings):
    """A policy on top of one world model."""

    seed: Whole
    device: Device
    dataset: Text
    behavior: Part
    reward: Part
    training: LearnerTraining
    store: Text
    world_model: Text
    checkpoints: Text
    output: Text


class Evaluate(StageSettings):
    """One policy in the environment."""

    device: Device
    dataset: Text
    environment: Part | None
    evaluation: Evaluation
    context: int
    world_model: Text
    policy: Text
    output: Text


class Finetune(StageSettings):
    """World model and policy, learning on in the environment."""

    seed: Whole
    device: Device
    dataset: Text
    environment: Part | None
    finetuning: Finetuning
    objective: Part
    world_model_training: WorldModelOptimisation
    behavior_training: LearnerOptimisation
    reward: Part
    evaluation: Evaluation
    context: int
    store: Text
    world_model: Text
    policy: Text
    checkpoints: Text
    output: Text


class Compare(StageSettings):
    """All objectives side by side."""

    dataset: Text
    objectives: list[Text]
    seeds: list[Whole]
    evaluation: Evaluation
    runs: Text
    output: Text
