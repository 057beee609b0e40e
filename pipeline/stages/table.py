"""What each stage reads and where it writes: the resolved configuration of a stage holds this and nothing else.

A setting that a stage does not read is not in its file, so DVC never reruns the stage because of it.
"""

from collections.abc import Callable

from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import Config

StageConfig = Config


DATASET_DEFAULTS: Config = {
    "recording": None,
    "fetch": None,
    "transforms": [],
    "on_invalid": "error",
    "split": {"validation_fraction": 0.1, "seed": 0},
    "environment": None,
    "reference": None,
}
DATASET_KEYS = {"name", "id", "source", *DATASET_DEFAULTS}


def dataset_of(config: Config) -> Config:
    """The chosen dataset with what its yaml leaves out.

    Raises:
        UserError: for a key that no stage reads.
    """
    dataset: Config = config["dataset"]
    unknown = sorted(dataset.keys() - DATASET_KEYS)
    if unknown:
        raise UserError(
            f"dataset={config['choices']['dataset']}: nothing reads the keys {unknown}, known are "
            f"{sorted(DATASET_KEYS)}; mend its yaml"
        )
    return DATASET_DEFAULTS | dataset


def item_name(objective: str, seed: int) -> str:
    """One entry of the matrix, also its folder's name."""
    return f"{objective}-{seed}"


def collect(config: Config) -> StageConfig:
    """Records the dataset, or registers the one that is there already."""
    dataset = dataset_of(config)
    recorded = dataset["recording"] is not None
    return {
        "dataset": dataset["name"],
        "recording": dataset["recording"],
        "environment": dataset["environment"] if recorded else None,
        "reference": dataset["reference"] if recorded else None,
        "fetch": dataset["fetch"],
        "source_path": dataset["source"].get("path"),
        "output": f"{config['paths']['recordings']}/{dataset['name']}",
    }


def ingest(config: Config) -> StageConfig:
    """Turns the recording into a checked store."""
    dataset = dataset_of(config)
    return {
        "dataset": dataset["name"],
        "source": dataset["source"],
        "transforms": dataset["transforms"],
        "on_invalid": dataset["on_invalid"],
        "split": dataset["split"],
        "settings": config["ingest"],
        "output": f"{config['paths']['stores']}/{dataset['name']}",
        "card": f"{config['paths']['cards']}/{dataset['name']}",
    }


def train_world_model(config: Config) -> StageConfig:
    """Trains one objective's world model."""
    return {
        "objective_name": config["choices"]["objective"],
        "seed": config["seed"],
        "device": config["device"],
        "dataset": config["dataset"]["name"],
        "objective": config["objective"],
        **_architecture(config),
        "training": config["world_model_training"],
        "validation": config["validation"],
        "store": f"{config['paths']['stores']}/{config['dataset']['name']}",
        "checkpoints": config["paths"]["checkpoints"],
        "output": _output(config, "world_model"),
    }


def _architecture(config: Config) -> StageConfig:
    """The chosen world model, or a pinned one that exists already and is to be trained on."""
    chosen, adaptation = config["world_model"], config.get("adaptation")
    if "_target_" in chosen:
        if adaptation is not None:
            raise UserError(
                f"adaptation={config['choices']['adaptation']} is for a world model that exists; add "
                "world_model=from_registry, as `dreamset adapt` does"
            )
        return {"world_model": chosen, "generation": config["choices"]["world_model"], "start": None}
    from dreamset.pipeline.artifacts import pretrained  # loads PyTorch, and MLflow where the registry is asked

    return pretrained.pin_world_model(chosen, config["dataset"]["name"], adaptation or {})


def learn_behavior(config: Config) -> StageConfig:
    """Learns a policy in the imagination of one world model."""
    return {
        "seed": config["seed"],
        "device": config["device"],
        "dataset": config["dataset"]["name"],
        "behavior": config["behavior"],
        "reward": config["reward"],
        "training": config["behavior_training"],
        "store": f"{config['paths']['stores']}/{config['dataset']['name']}",
        "world_model": f"{_output(config, 'world_model')}/model",
        "checkpoints": config["paths"]["checkpoints"],
        "output": _output(config, "behavior"),
    }


def evaluate(config: Config) -> StageConfig:
    """Runs one policy in the environment."""
    return {
        "device": config["device"],
        "dataset": config["dataset"]["name"],
        "environment": dataset_of(config)["environment"],
        "evaluation": config["evaluation"],
        "context": config["validation"]["context"],
        "world_model": f"{_output(config, 'world_model')}/model",
        "policy": f"{_output(config, 'behavior')}/model",
        "output": _output(config, "evaluation"),
    }


def finetune(config: Config) -> StageConfig:
    """Goes on learning in the environment."""
    return {
        "seed": config["seed"],
        "device": config["device"],
        "dataset": config["dataset"]["name"],
        "environment": dataset_of(config)["environment"],
        "finetuning": config["finetuning"],
        "objective": config["objective"],
        "world_model_training": _optimisation(config["world_model_training"]),
        "behavior_training": _optimisation(config["behavior_training"]),
        "reward": config["reward"],
        "evaluation": config["evaluation"],
        "context": config["validation"]["context"],
        "store": f"{config['paths']['stores']}/{config['dataset']['name']}",
        "world_model": _output(config, "world_model"),
        "policy": f"{_output(config, 'behavior')}/model",
        "checkpoints": config["paths"]["checkpoints"],
        "output": _output(config, "finetune"),
    }


def _optimisation(training: Config) -> Config:
    """How gradients are applied; how many and to what is another stage's business."""
    return {key: value for key, value in training.items() if key not in ("updates", "batch", "scheduler")}


def compare(config: Config, objectives: list[str], seeds: list[int]) -> StageConfig:
    """Puts all objectives side by side."""
    return {
        "dataset": config["dataset"]["name"],
        "objectives": objectives,
        "seeds": seeds,
        "evaluation": config["evaluation"],
        "runs": config["paths"]["runs"],
        "output": f"{config['paths']['runs']}/comparison",
    }


SHARED: dict[str, Callable[[Config], StageConfig]] = {"collect": collect, "ingest": ingest}
PER_OBJECTIVE: dict[str, Callable[[Config], StageConfig]] = {
    "train_world_model": train_world_model,
    "learn_behavior": learn_behavior,
    "evaluate": evaluate,
}
ONLINE: dict[str, Callable[[Config], StageConfig]] = {"finetune": finetune}  # of the objectives that are named for it
STAGES = SHARED | PER_OBJECTIVE | ONLINE


def _output(config: Config, stage: str) -> str:
    return f"{config['paths']['runs']}/{stage}/{item_name(config['choices']['objective'], config['seed'])}"
