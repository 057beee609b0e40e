"""The schema of the whole composed configuration: which keys there are, of which kind, and within which bounds.

A node with ``_target_`` is free here, since its keys are the arguments of what it names: ``targets`` checks those.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]  # zero included
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Config = dict[str, Any]  # composed, as plain values
Device = Literal["auto", "cpu", "cuda"]


def _is_part(node: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(node.get("_target_"), str):
        raise ValueError("a part, with the class or function as _target_")
    return node


Part = Annotated[dict[str, Any], AfterValidator(_is_part)]
Factors = dict[str, Amount]  # part of a world model, or module below one -> factor on its learning rate


class Section(BaseModel):
    """A mapping with known keys; a key that is not among them is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Network(Section):
    """Sizes that several parts share."""

    depth: Count
    hidden: Count
    layers: Whole
    deterministic: Count
    stochastic: Count
    min_std: Amount
    variables: Count
    classes: Count


class Weights(Section):
    """Of the terms of the evidence lower bound."""

    reward: Amount
    observation: Amount
    contrastive: Amount
    kl: Amount


class Imagination(Section):
    """Numbers of a behaviour that presets change. Every behaviour has some of them."""

    horizon: Count = 1
    discount: Share = 0
    slow_critic_every: Count = 1
    slow_critic_decay: Share = 0
    replay_critic_weight: Amount = 0


class TanhNormal(Section):
    """Numbers of Dreamer v1's actor that presets change."""

    initial_std: Positive = 1
    min_std: Amount = 0
    mean_scale: Positive = 1


class Collection(Section):
    """How many episodes are recorded here."""

    episodes: Count
    reference_episodes: Count


class Ingest(Section):
    """How the store is written."""

    compression: Literal["lzf", "gzip", "lz4", "zstd"] | None
    shard_megabytes: Count
    workers: Count


class Batch(Section):
    """Windows that are learned from together."""

    size: Count
    length: Count
    crossing: bool
    strategy: Part


class Clipped(Section):
    """Training with one of two kinds of clipping."""

    clip_norm: Positive | None
    clipping: Part | None

    @model_validator(mode="after")
    def _one_clipping(self) -> Self:
        if (self.clip_norm is None) == (self.clipping is None):
            found = "neither" if self.clip_norm is None else "both"
            raise ValueError(f"exactly one of clip_norm and clipping, the other one null; got {found}")
        return self


class WorldModelOptimisation(Clipped):
    """How a world model's gradients are applied."""

    optimizer: Part


class WorldModelTraining(WorldModelOptimisation):
    """How a world model is trained."""

    updates: Whole  # none: a reused model as it is
    batch: Batch
    scheduler: Part | None


class LearnerOptimisation(Clipped):
    """How the gradients of a learner's networks are applied, by the networks' names."""

    optimizers: dict[str, Part | None]


class LearnerTraining(LearnerOptimisation):
    """How a learner is trained."""

    updates: Count
    batch: Batch


class BehaviorTraining(LearnerTraining):
    """The same as it is configured: a behaviour may say which of the networks it has."""

    networks: Annotated[list[Text], Field(min_length=1)] | None = None  # null: those that optimizers names


class ProbeDecoder(Section):
    """The decoder that is trained on a finished model's features."""

    updates: Whole
    batch_size: Count
    lr: Positive
    depth: Count
    hidden: Count
    layers: Whole


class Validation(Section):
    """How the held-out figures are taken."""

    every: Count
    episodes: Count
    context: Count
    horizons: Annotated[list[Count], Field(min_length=1)]
    starts: Count
    probe_episodes: Count
    probe_decoder: ProbeDecoder
    video_episodes: Count


class Explorer(Section):
    """A learner that collects in the policy's place, with a reward of its own."""

    behavior: Part
    reward: Part


class Finetuning(Section):
    """Learning that goes on in the environment."""

    environment_steps: Count
    environments: Count
    train_ratio: Positive
    batch: Batch
    online_share: Share
    exploration: Part
    explorer: Explorer | None
    actor_from: Whole
    scheduler: Part | None
    factors: Factors | None
    transforms: list[Part]
    evaluate_every: Count


class Evaluation(Section):
    """How a policy is scored in the environment."""

    episodes: Count
    seed: Whole
    confidence: Share
    resamples: Count
    video_episodes: Count


class Paths(Section):
    """Folders that the stages write to."""

    recordings: Text
    stores: Text
    cards: Text
    runs: Text
    checkpoints: Text


class Split(Section):
    """Which episodes validate."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Whole = 0


class Recording(Section):
    """How a dataset is recorded here."""

    dataset_id: Text
    episodes: Count
    reference_episodes: Count
    seed: Whole
    workers: Count = 1
    policy: Part


class Reference(Section):
    """Policies whose mean returns are 0 and 100 of the normalised score."""

    low: Part
    high: Part


class Dataset(Section):
    """Where trajectories come from; what a dataset's yaml leaves out has a default here."""

    name: Text
    id: str | None = None
    source: Part
    recording: Recording | None = None
    fetch: Part | None = None
    transforms: list[Part] = []
    on_invalid: Literal["error", "quarantine"] = "error"
    split: Split = Split()
    environment: Part | None = None
    reference: Reference | None = None


class RegisteredModel(Section):
    """A world model that exists: ``world_model=from_registry``."""

    name: Text | None
    alias: Text | None
    version: Count | None
    run: Text | None
    folder: Text | None
    strict: bool


def _kind_of_model(node: object) -> str:
    return "registered" if isinstance(node, Mapping) and "strict" in node else "part"


ModelChoice = Annotated[
    Annotated[Part, Tag("part")] | Annotated[RegisteredModel, Tag("registered")], Discriminator(_kind_of_model)
]


class Settings(Section):
    """Everything that ``configs/`` composes."""

    seed: Whole
    device: Device
    dataset: Dataset
    objective: Part
    decoder: Part
    world_model: ModelChoice
    behavior: Part
    reward: Part
    adaptation: Factors | None = None
    network: Network
    weights: Weights
    free_nats: Amount
    free_bits: Amount
    imagination: Imagination = Imagination()
    tanh_normal: TanhNormal = TanhNormal()
    collection: Collection
    ingest: Ingest
    world_model_training: WorldModelTraining
    validation: Validation
    behavior_training: BehaviorTraining
    finetuning: Finetuning
    evaluation: Evaluation
    paths: Paths


@cache
def schema_keys(model: type[BaseModel] = Settings) -> frozenset[str]:
    """Every key of a schema, dotted; what is free below a part is not among them."""
    return frozenset(_fields(model))


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for section in _sections(field.annotation):
            yield from _fields(section, f"{prefix}{name}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
