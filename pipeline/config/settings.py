"""The schema of the composed configuration: its keys, their types and their bounds.

A node with ``_target_`` may have any keys here, because they are arguments of a part. ``targets`` checks them.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]  # zero included
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]  # the range of every generator; no null, because a run must repeat
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Config = dict[str, Any]  # composed configuration, as plain values
Device = Literal["auto", "cpu", "cuda"]


def _is_part(node: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(node.get("_target_"), str):
        raise ValueError("a part: a mapping with the class or function as _target_")
    return node


Part = Annotated[dict[str, Any], AfterValidator(_is_part)]
Factors = dict[str, Amount]  # part of a world model, or module in a part -> factor on its learning rate


class Section(BaseModel):
    """A mapping with known keys. Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
    encoder_hidden: Count
    encoder_layers: Whole
    critics: Count
    critic_dropout: Share


class Weights(Section):
    """Weights of the terms of the evidence lower bound."""

    reward: Amount
    observation: Amount
    contrastive: Amount
    kl: Amount


class Imagination(Section):
    """Settings of behaviours that presets change. Each behaviour uses some of them."""

    horizon: Count = 1
    discount: Share = 0
    slow_critic_every: Count = 1
    slow_critic_decay: Share = 0
    replay_critic_weight: Amount = 0


class TanhNormal(Section):
    """Settings of Dreamer v1's actor that presets change."""

    initial_std: Positive = 1
    min_std: Amount = 0
    mean_scale: Positive = 1


class Collection(Section):
    """Numbers of episodes, for datasets that the pipeline records."""

    episodes: Count
    reference_episodes: Count


class Ingest(Section):
    """Settings for writing the store."""

    compression: Literal["lzf", "gzip", "lz4", "zstd"] | None
    shard_megabytes: Count
    workers: Count


class Batch(Section):
    """Settings of batches of windows."""

    size: Count
    length: Count
    crossing: bool
    strategy: Part


class Clipped(Section):
    """A training with one of two kinds of gradient clipping."""

    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] | None  # .inf: no limit
    clipping: Part | None

    @model_validator(mode="after")
    def _one_clipping(self) -> Self:
        if (self.clip_norm is None) == (self.clipping is None):
            given = "neither" if self.clip_norm is None else "both"
            raise ValueError(f"exactly one of clip_norm and clipping, and null for the other; {given} is set")
        return self


class WorldModelOptimisation(Clipped):
    """Optimiser and clipping of a world model."""

    optimizer: Part


class WorldModelTraining(WorldModelOptimisation):
    """Settings of the training of a world model."""

    updates: Whole  # 0 takes an existing model unchanged
    batch: Batch
    scheduler: Part | None
    factors: Factors | None = None  # on the rates of parts; those of adaptation take precedence


class LearnerOptimisation(Clipped):
    """Optimisers of a learner, by the names of its networks, and clipping."""

    optimizers: dict[str, Part | None]


class LearnerTraining(LearnerOptimisation):
    """Settings of the training of a learner."""

    updates: Count
    batch: Batch


class BehaviorTraining(LearnerTraining):
    """The configured training of a learner. A behaviour may list its networks."""

    networks: list[Text] | None = None  # []: nothing to learn; null: all networks in optimizers


class ProbeDecoder(Section):
    """The decoder that is trained on the features of a finished world model."""

    updates: Whole
    batch_size: Count
    lr: Positive
    depth: Count
    hidden: Count
    layers: Whole


class Validation(Section):
    """Settings of validation on held-out episodes."""

    every: Count
    episodes: Count
    context: Count
    horizons: Annotated[list[Count], Field(min_length=1)]
    starts: Count
    probe_episodes: Count
    probe_decoder: ProbeDecoder
    video_episodes: Count


class Explorer(Section):
    """A second learner with its own reward, which collects episodes instead of the policy."""

    behavior: Part
    reward: Part


class Goals(Section):
    """Goals of a behaviour: how they are drawn from recorded episodes and how they are encoded."""

    within: Whole | None
    rows: Count


class Finetuning(Section):
    """Settings of fine-tuning in the environment."""

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
    """Settings of the evaluation of a policy in the environment."""

    episodes: Count
    seed: Seed
    confidence: Share
    resamples: Count
    video_episodes: Count


class EpisodeLimits(Section):
    """What the episodes of an environment may not exceed."""

    steps: Count
    seconds: Positive
    step_seconds: Positive


class Paths(Section):
    """Folders of the stages' outputs."""

    recordings: Text
    stores: Text
    cards: Text
    runs: Text
    checkpoints: Text


class Split(Section):
    """The split into training and validation episodes."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Seed = 0


class Recording(Section):
    """Settings for recording a dataset."""

    dataset_id: Text
    episodes: Count
    reference_episodes: Count
    seed: Seed
    workers: Count = 1
    policy: Part


class Reference(Section):
    """Policies whose mean returns are 0 and 100 on the scale of the normalised score."""

    low: Part
    high: Part


class Dataset(Section):
    """A dataset. Keys that its yaml file omits have their defaults here."""

    name: Text
    id: str | None = None
    source: Part
    recording: Recording | None = None
    fetch: Part | None = None
    encoder: Part | None = None  # of patch features; transforms and environment refer to it
    transforms: list[Part] = []
    on_invalid: Literal["error", "quarantine"] = "error"
    split: Split = Split()
    environment: Part | None = None
    reference: Reference | None = None


class RegisteredModel(Section):
    """An existing world model: ``world_model=from_registry``."""

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
    """The whole configuration that ``configs/`` composes."""

    seed: Seed
    device: Device
    dataset: Dataset
    objective: Part
    decoder: Part
    world_model: ModelChoice
    behavior: Part
    reward: Part
    goals: Goals | None = None
    acting: Part | None
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
    episode_limits: EpisodeLimits
    paths: Paths


@cache
def schema_keys(model: type[BaseModel] = Settings) -> frozenset[str]:
    """All dotted keys of a schema, except the arguments of parts."""
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
