"""The table of stages: what each stage does, which settings it reads and where it writes.

A resolved file has only the settings that its stage reads, so DVC never reruns a stage because of another setting. The
command line, ``resolve`` and ``dvc.yaml`` have the stages of this table.

The functions that select a stage's settings are here and not in the stages' modules. Those modules load PyTorch, which
takes seconds, and ``dreamset --help``, ``dreamset show`` and ``dreamset resolve`` need this table only.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline import locks
from dreamset.pipeline.config.settings import Config, Dataset
from dreamset.pipeline.config.source_paths import source_paths
from dreamset.pipeline.stages import settings
from dreamset.pipeline.stages.settings import StageSettings

StageConfig = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A row of the table. Calling it returns the stage's settings as plain values, which ``run`` takes."""

    name: str  # of the module, and of the stage in dvc.yaml
    help: str
    settings: type[StageSettings]
    select: Callable[[Config], StageSettings]
    sources: Mapping[str, str] = field(default_factory=dict)  # key of the settings -> of the configuration
    reads: Sequence[str] = ()  # keys of the settings that hold folders of earlier stages
    writes: Sequence[str] = ("output",)  # and of the folders that the stage writes

    @property
    def command(self) -> str:
        """The name on the command line."""
        return self.name.replace("_", "-")

    def __call__(self, config: Config) -> StageConfig:
        """The settings of the stage, selected from a composed configuration."""
        return self.select(config).plain()

    def run(self, config: StageConfig) -> Sequence[str]:
        """Runs the stage and returns what it reports at its end, in lines.

        Its module is loaded only now, because most of them load PyTorch.

        Raises:
            UserError: before anything is written, if a setting is wrong or another process writes the same outputs.
        """
        self.settings.of(**config)  # before the locks, which make the folders of the outputs
        with locks.writing(Path(config[key]) for key in self.writes):
            lines: Sequence[str] | None = importlib.import_module(f"dreamset.pipeline.stages.{self.name}").run(config)
        return lines or ()


def run_key(objective: str, seed: int) -> str:
    """The key of one run in the matrix of ``dvc.yaml``, and the name of its folder."""
    return f"{objective}-{seed}"


def dataset_of(config: Config) -> Config:
    """The dataset, with defaults for the keys that its yaml leaves out."""
    dataset: Config = Dataset.model_validate(config["dataset"]).model_dump()
    return dataset


def _source_path(source: Config) -> str | list[str] | None:
    paths = source_paths(source)
    return paths if len(paths) > 1 else next(iter(paths), None)


def _collect(config: Config) -> StageSettings:
    dataset = dataset_of(config)
    recorded = dataset["recording"] is not None
    return settings.Collect.of(
        dataset=dataset["name"],
        recording=dataset["recording"],
        environment=dataset["environment"] if recorded else None,
        episode_limits=config["episode_limits"],
        reference=dataset["reference"] if recorded else None,
        fetch=dataset["fetch"],
        source_path=_source_path(dataset["source"]),
        output=f"{config['paths']['recordings']}/{dataset['name']}",
    )


def _ingest(config: Config) -> StageSettings:
    dataset = dataset_of(config)
    return settings.IngestDataset.of(
        dataset=dataset["name"],
        source=dataset["source"],
        transforms=dataset["transforms"],
        on_invalid=dataset["on_invalid"],
        split=dataset["split"],
        settings=config["ingest"],
        output=_store(config),
        card=f"{config['paths']['cards']}/{dataset['name']}",
    )


def _train_world_model(config: Config) -> StageSettings:
    return settings.TrainWorldModel.of(
        objective_name=config["choices"]["objective"],
        seed=config["seed"],
        device=config["device"],
        dataset=config["dataset"]["name"],
        objective=config["objective"],
        **_architecture(config),
        training=config["world_model_training"],
        validation=config["validation"],
        store=_store(config),
        checkpoints=config["paths"]["checkpoints"],
        output=_output(config, "world_model"),
    )


def _architecture(config: Config) -> StageConfig:
    """A new world model, or an existing one, pinned by its digest, that is trained further."""
    world_model, adaptation = config["world_model"], config.get("adaptation")
    if "_target_" in world_model:
        if adaptation is not None:
            raise UserError(
                f"adaptation={config['choices']['adaptation']} needs an existing world model; add "
                "world_model=from_registry, as `dreamset adapt` does"
            )
        return {"world_model": world_model, "generation": config["choices"]["world_model"], "start": None}
    from dreamset.pipeline.artifacts import pretrained  # loads PyTorch, and MLflow if it asks the registry

    return pretrained.pin_world_model(world_model, config["dataset"]["name"], adaptation or {})


def _learn_behavior(config: Config) -> StageSettings:
    return settings.LearnBehavior.of(
        seed=config["seed"],
        device=config["device"],
        dataset=config["dataset"]["name"],
        behavior=config["behavior"],
        reward=config["reward"],
        goals=config.get("goals"),
        training=config["behavior_training"],
        store=_store(config),
        world_model=f"{_output(config, 'world_model')}/model",
        checkpoints=config["paths"]["checkpoints"],
        output=_output(config, "behavior"),
    )


def _evaluate(config: Config) -> StageSettings:
    return settings.Evaluate.of(
        device=config["device"],
        dataset=config["dataset"]["name"],
        environment=dataset_of(config)["environment"],
        episode_limits=config["episode_limits"],
        evaluation=config["evaluation"],
        context=config["validation"]["context"],
        acting=config.get("acting"),
        world_model=f"{_output(config, 'world_model')}/model",
        policy=f"{_output(config, 'behavior')}/model",
        output=_output(config, "evaluation"),
    )


def _finetune(config: Config) -> StageSettings:
    return settings.Finetune.of(
        seed=config["seed"],
        device=config["device"],
        dataset=config["dataset"]["name"],
        environment=dataset_of(config)["environment"],
        episode_limits=config["episode_limits"],
        finetuning=config["finetuning"],
        objective=config["objective"],
        world_model_training=_optimisation(config["world_model_training"]),
        behavior_training=_optimisation(config["behavior_training"]),
        reward=config["reward"],
        acting=config.get("acting"),
        evaluation=config["evaluation"],
        context=config["validation"]["context"],
        store=_store(config),
        world_model=_output(config, "world_model"),
        policy=f"{_output(config, 'behavior')}/model",
        checkpoints=config["paths"]["checkpoints"],
        output=_output(config, "finetune"),
    )


def _optimisation(training: Config) -> Config:
    """Only how gradients are applied; fine-tuning has its own batches, schedule, factors and number of updates."""
    own = ("updates", "batch", "scheduler", "factors")
    return {key: value for key, value in training.items() if key not in own}


def compare(
    config: Config,
    objectives: Sequence[str],
    seeds: Sequence[int],
    different_settings: Mapping[str, Mapping[str, str]] | None = None,
) -> StageConfig:
    """The settings of the stage ``compare``, as plain values."""
    different = {key: dict(values) for key, values in (different_settings or {}).items()}
    return COMPARE({**config, "objectives": list(objectives), "seeds": list(seeds), "different_settings": different})


def _compare(config: Config) -> StageSettings:
    return settings.Compare.of(
        dataset=config["dataset"]["name"],
        objectives=config["objectives"],
        seeds=config["seeds"],
        evaluation=config["evaluation"],
        runs=config["paths"]["runs"],
        store=_store(config),
        dataset_card=f"{config['paths']['cards']}/{config['dataset']['name']}",
        different_settings=config["different_settings"],
        output=f"{config['paths']['runs']}/comparison",
    )


def _store(config: Config) -> str:
    return f"{config['paths']['stores']}/{config['dataset']['name']}"


def _output(config: Config, stage: str) -> str:
    return f"{config['paths']['runs']}/{stage}/{run_key(config['choices']['objective'], config['seed'])}"


_DATASET = {"dataset": "dataset.name", "environment": "dataset.environment", "context": "validation.context"}
_PATHS = {"store": "paths.stores", "checkpoints": "paths.checkpoints", "output": "paths.runs"}

collect = Stage(
    "collect",
    "record the dataset, or note the state of an existing one",
    settings.Collect,
    _collect,
    {
        **{key: f"dataset.{key}" for key in ("recording", "environment", "reference", "fetch")},
        "dataset": "dataset.name",
        "source_path": "dataset.source.path",
        "output": "paths.recordings",
    },
)
ingest = Stage(
    "ingest",
    "turn the dataset into a checked store with a dataset card",
    settings.IngestDataset,
    _ingest,
    {
        **{key: f"dataset.{key}" for key in ("source", "transforms", "on_invalid", "split")},
        "dataset": "dataset.name",
        "settings": "ingest",
        "output": "paths.stores",
        "card": "paths.cards",
    },
    reads=("source",),
    writes=("output", "card"),
)
train_world_model = Stage(
    "train_world_model",
    "train the world model of one objective",
    settings.TrainWorldModel,
    _train_world_model,
    {
        **_DATASET,
        **_PATHS,
        "training": "world_model_training",
        "objective_name": "choices.objective",
        "generation": "choices.world_model",
    },
    reads=("store",),
)
learn_behavior = Stage(
    "learn_behavior",
    "learn a policy in the imagination of a frozen world model",
    settings.LearnBehavior,
    _learn_behavior,
    {**_DATASET, **_PATHS, "training": "behavior_training", "world_model": "paths.runs"},
    reads=("store", "world_model"),
)
evaluate = Stage(
    "evaluate",
    "evaluate the policy in the environment",
    settings.Evaluate,
    _evaluate,
    {**_DATASET, **_PATHS, "world_model": "paths.runs", "policy": "paths.runs"},
    reads=("world_model", "policy"),
)
finetune = Stage(
    "finetune",
    "fine-tune world model and policy online, with offline and online data",
    settings.Finetune,
    _finetune,
    {**_DATASET, **_PATHS, "world_model": "paths.runs", "policy": "paths.runs"},
    reads=("store", "world_model", "policy"),
)
COMPARE = Stage("compare", "compare all objectives in one table and one figure", settings.Compare, _compare)

SHARED = {stage.name: stage for stage in (collect, ingest)}
PER_OBJECTIVE = {stage.name: stage for stage in (train_world_model, learn_behavior, evaluate)}
ONLINE = {finetune.name: finetune}  # only for the objectives in finetune of params.yaml
STAGES = SHARED | PER_OBJECTIVE | ONLINE
