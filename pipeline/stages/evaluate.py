"""Stage ``evaluate``: one policy in the environment, beside what its world model imagined."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dreamset.core.capabilities import Controller, require
from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, save_with
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.artifacts.saved_models import (
    load_behavior,
    load_world_model,
    model_digest,
    require_dataset,
)
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.evaluation.playing import play_evaluation
from dreamset.pipeline.evaluation.scores import episode_table, imagined_returns, summarize
from dreamset.pipeline.files import write_json
from dreamset.pipeline.progress import counter
from dreamset.pipeline.report import videos
from dreamset.pipeline.tracking import reporting
from dreamset.pipeline.training.devices import choose_device


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; see ``stages.evaluate`` for the configuration."""
    if config["environment"] is None:
        raise UserError(
            "dataset.environment is null, so there is nothing to evaluate in; name an environment in the dataset's "
            "yaml or leave the stages evaluate and compare out: dvc repro learn_behavior"
        )
    device = choose_device(config["device"])
    model, described = load_world_model(Path(config["world_model"]), device)
    require_dataset(described, config["dataset"], Path(config["world_model"]))
    behavior = load_behavior(Path(config["policy"]), device)
    require(model, *behavior.needs, by=type(behavior).__name__)
    make: Callable[[], Environment] = build_part(config["environment"])
    with reporting.stage_run(
        "evaluate", root=reporting.root_name(described.lineage), lineage=described.lineage["key"]
    ) as tracked:
        tracked.parameters(config)
        episodes = run_policy(config, behavior.controller(model), make, device)
        imagined = imagined_returns(model, behavior, episodes, context=config["context"], device=device)
        table = episode_table(episodes, imagined, context=config["context"])
        metrics = summarize(config["evaluation"], table, described.lineage)
        output = Path(config["output"])
        with replaced_folder(output) as fresh:
            write_json(fresh / "metrics.json", metrics)
            save_with(fresh / "episodes.csv", lambda path: table.to_csv(path, index=False))
            shown = episodes[: config["evaluation"]["video_episodes"]]
            videos.episode_video(shown, make, fresh / "media" / "episodes.mp4")
        tracked.headline(metrics)
        tracked.measured(model_digest(Path(config["policy"])), metrics)
        tracked.artifacts(output / "episodes.csv")
        tracked.artifacts(output / "media", on_root=True)


def run_policy(
    config: dict[str, Any], controller: Controller[Any], make: Callable[[], Environment], device: torch.device
) -> list[RecordedEpisode]:
    """One episode per evaluation seed, all side by side."""
    settings, count = config["evaluation"], config["evaluation"]["episodes"]
    with counter(description="evaluate (steps)") as step:
        return play_evaluation(settings, controller, make, episodes=count, device=device, on_step=step)
