"""The typed settings of each stage: the contents of its file in ``resolved/``, and nothing else.

The modules of settings check values and never change them. All values, defaults included, are in the resolved file, so
an edit of these modules alone reruns no stage (``pipeline/config/dependencies.py``).
"""

from collections.abc import Collection
from typing import Any, Self

import yaml
from pydantic import Field

from dreamset.pipeline.config.settings import (
    Device,
    EpisodeLimits,
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
    Seed,
    Split,
    Text,
    Validation,
    WorldModelOptimisation,
    WorldModelTraining,
)


class StageSettings(Section):
    """A stage's settings. They are frozen, and an unknown key is an error."""

    code: Text | None = None  # digest of the code that the stage depends on, once it is computed

    @classmethod
    def of(cls, **values: Any) -> Self:
        """The settings from plain values, as the composed configuration and yaml have them.

        Raises:
            UserError: for the first wrong value, by key.
        """
        from dreamset.pipeline.config.checks import checked  # loads Hydra, which the command line does not wait for

        return checked(cls, values, where=f"settings of the stage ({cls.__name__})")

    def plain(self) -> dict[str, Any]:
        """The plain values; the inverse of ``of``."""
        return self.model_dump(exclude={"code"} if self.code is None else None)

    def text(self, *, without: Collection[str] = ()) -> str:
        """The plain values as yaml. Equal settings give equal text, so its digest identifies a run of the stage.

        Args:
            without: keys that do not change what the stage computes.
        """
        return yaml.safe_dump({key: value for key, value in self.plain().items() if key not in without}, sort_keys=True)


class Collect(StageSettings):
    """How a dataset is recorded, or where an existing dataset lies."""

    dataset: Text
    recording: Recording | None
    environment: Part | None
    episode_limits: EpisodeLimits
    reference: Reference | None
    fetch: Part | None
    source_path: str | list[str] | None  # of several sources: a list
    output: Text


class IngestDataset(StageSettings):
    """A source, the transforms of its episodes, and the folder of the store."""

    dataset: Text
    source: Part
    transforms: list[Part]
    on_invalid: Text
    split: Split
    settings: Ingest
    output: Text
    card: Text


class Start(Section):
    """An existing world model, pinned by its digest, and the learning rate factors of its parts."""

    digest: Text
    name: str | None
    version: int | None
    run: str | None
    folder: str | None
    strict: bool
    adaptation: Factors


class TrainWorldModel(StageSettings):
    """The world model of one objective."""

    objective_name: Text
    seed: Seed
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
    """A policy that is learned in one world model."""

    seed: Seed
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
    """The episodes of one policy in the environment."""

    device: Device
    dataset: Text
    environment: Part | None
    episode_limits: EpisodeLimits
    evaluation: Evaluation
    context: int
    acting: Part | None
    world_model: Text
    policy: Text
    output: Text


class Finetune(StageSettings):
    """Fine-tuning of a world model and a policy in the environment."""

    seed: Seed
    device: Device
    dataset: Text
    environment: Part | None
    episode_limits: EpisodeLimits
    finetuning: Finetuning
    objective: Part
    world_model_training: WorldModelOptimisation
    behavior_training: LearnerOptimisation
    reward: Part
    acting: Part | None
    evaluation: Evaluation
    context: int
    store: Text
    world_model: Text
    policy: Text
    checkpoints: Text
    output: Text


class Compare(StageSettings):
    """The comparison of all objectives."""

    dataset: Text
    objectives: list[Text]
    seeds: list[Seed]
    evaluation: Evaluation
    runs: Text
    store: str | None = None
    dataset_card: str | None = None  # folder of the dataset card
    different_settings: dict[str, dict[str, str]] = Field(
        default_factory=dict
    )  # key -> objective -> value, of settings that differ
    output: Text
