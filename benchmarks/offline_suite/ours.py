"""Dreamset's jobs: stages of the pipeline, with their CPU seconds."""

import shutil
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.offline_suite.episodes import Returns
from dreamset.pipeline.files import read_json, write_json
from dreamset.pipeline.registry.registration import code_version
from dreamset.pipeline.stages import collect, evaluate, ingest, learn_behavior, train_world_model
from dreamset.pipeline.stages.environment import environment_factory, require_environment
from dreamset.pipeline.stages.settings import Evaluate

COST = "cost.json"  # beside a world model or a policy; marks it as complete
FIGURES = {  # column -> name in the stages' metrics
    "reward_error_h1": "validation/reward_error_h1",
    "reward_error_h5": "validation/reward_error_h5",
    "reward_error_h15": "validation/reward_error_h15",
    "probe_r2": "validation/probe_r2",
    "imagined_return": "evaluation/imagined_return",
    "real_return": "evaluation/real_return",
    "world_model_updates": "cost/updates",
    "behavior_updates": "cost/behavior_updates",
    "action_error": "held_out/action_error",
    "plan_error": "held_out/plan_error",
}


def prepare(work: dict[str, Any]) -> None:
    """Records the dataset unless it exists, and ingests it."""
    if not Path(work["collect"]["output"]).exists():
        collect.run(work["collect"])
    ingest.run(work["ingest"])


def join(work: dict[str, Any]) -> None:
    """Ingests a dataset whose parts are stores, so that nothing is recorded."""
    ingest.run(work["ingest"])


def train(work: dict[str, Any]) -> None:
    """Trains a world model that several methods may share.

    Its CPU seconds are those of the whole stage, including validation and the probe decoder.
    """
    stage = work["stage"]
    shutil.rmtree(stage["checkpoints"], ignore_errors=True)  # the earlier cost of a resumed training is unknown
    began = time.process_time()
    train_world_model.run(stage)
    _write_cost(stage, began)


def learn(work: dict[str, Any]) -> None:
    """Learns a policy that several rows may share."""
    stage = work["stage"]
    shutil.rmtree(stage["checkpoints"], ignore_errors=True)
    began = time.process_time()
    learn_behavior.run(stage)
    _write_cost(stage, began)


def _write_cost(stage: dict[str, Any], began: float) -> None:
    write_json(Path(stage["output"]) / COST, {"cpu_seconds": time.process_time() - began, "code": code_version()})


def run(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Learns a behaviour with a trained world model and evaluates it; returns metrics and returns."""
    learn, model = work["learn"], Path(work["learn"]["world_model"]).parent
    shutil.rmtree(learn["checkpoints"], ignore_errors=True)
    began = time.process_time()
    learn_behavior.run(learn)
    behavior_seconds = time.process_time() - began
    model_seconds = read_json(model / COST, made_by="the job of the world model")["cpu_seconds"]
    metrics, returns, parameters = evaluated(work["evaluate"])
    for folder in (model, Path(learn["output"])):
        metrics |= read_json(folder / "metrics.json", made_by="the stage")
    figures = {column: metrics[name] for column, name in FIGURES.items() if name in metrics}
    figures |= {
        "parameters": metrics["cost/parameters"] + parameters,
        "world_model_cpu_seconds": round(model_seconds, 1),
        "behavior_cpu_seconds": round(behavior_seconds, 1),
        "cpu_seconds": round(model_seconds + behavior_seconds, 1),
    }
    return figures, returns


def evaluated(config: dict[str, Any]) -> tuple[dict[str, float], Returns, int]:
    """The stage ``evaluate`` without its video, which needs a renderer.

    Returns:
        metrics, (return, length) of every episode, and the number of trained parameters.
    """
    settings = Evaluate.of(**config)
    environment = require_environment(settings.environment, stage="evaluate", remedy="choose another task")
    make = environment_factory(environment, settings.episode_limits, output=settings.output)
    evaluator = evaluate.load_evaluator(settings, make, torch.device("cpu"))
    episodes = evaluate.play(evaluator)
    metrics = evaluator.score(evaluator.table(episodes))
    returns = [(episode.total_reward, len(episode.rewards)) for episode in episodes]
    trained = [parameter for network in evaluator.behavior.networks().values() for parameter in network.parameters()]
    return metrics, returns, sum(parameter.numel() for parameter in trained)
