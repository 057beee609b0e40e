"""Stage ``evaluate``: one policy in the environment, beside what its world model imagined."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, save_with
from dreamset.core.records import LatentState, SequenceBatch
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.artifacts.saved_models import (
    POLICY,
    WEIGHTS,
    build,
    load_weights,
    load_world_model,
    model_digest,
    read_description,
    require_dataset,
)
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.evaluation.playing import play_evaluation
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, interquartile_mean, mean
from dreamset.pipeline.files import write_json
from dreamset.pipeline.progress import counter
from dreamset.pipeline.report import videos
from dreamset.pipeline.stages.learn_behavior import root_name
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
    make: Callable[[], Environment] = build_part(config["environment"])
    with reporting.stage_run(
        "evaluate", root=root_name(described.lineage), lineage=described.lineage["key"]
    ) as tracked:
        tracked.parameters(config)
        episodes = run_policy(config, model, behavior, make, device)
        imagined = imagined_returns(model, behavior.actor, episodes, context=config["context"], device=device)
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


def load_behavior(folder: Path, device: torch.device) -> Any:
    """A learned behaviour, frozen."""
    made_by = "dreamset learn-behavior"
    saved = read_description(folder, made_by=made_by, kind=POLICY)
    spec = saved.spec
    behavior = build(
        saved.architecture,
        saved.lineage["feature_size"],
        spec.action,
        allowed=("dreamset.behaviors", "dreamset.models"),
    )
    load_weights(folder / WEIGHTS, behavior, made_by=made_by)
    return behavior.to(device).eval().requires_grad_(False)


def run_policy(
    config: dict[str, Any], model: WorldModel, behavior: Any, make: Callable[[], Environment], device: torch.device
) -> list[RecordedEpisode]:
    """One episode per evaluation seed, all side by side."""
    settings, count = config["evaluation"], config["evaluation"]["episodes"]
    with counter(description="evaluate (steps)") as step:
        return play_evaluation(settings, model, behavior.actor, make, episodes=count, device=device, on_step=step)


@torch.no_grad()
def imagined_returns(
    model: WorldModel, actor: Any, episodes: list[RecordedEpisode], *, context: int, device: torch.device
) -> NDArray[np.float64]:
    """What the model expects the policy to earn after the first ``context`` rows of each real episode: [episodes].

    The model sees those rows and imagines the rest, to the length of the shortest episode. Comparing it with what was
    really earned from there on tells a policy that learned the task from one that learned the model's mistakes.
    """
    horizon = min(len(episode.rewards) for episode in episodes) - (context - 1)
    if horizon < 1:
        return np.full(len(episodes), np.nan)
    generator = torch.Generator(device).manual_seed(0)
    rollout = model.observe(_first_rows(model, episodes, context, device), generator)
    start: LatentState = rollout.posterior.map(lambda value: value[:, -1])
    trajectory = model.imagine(start, lambda features: actor(features).mode, horizon=horizon, generator=generator)
    return model.reward(trajectory.features[1:]).sum(0).double().cpu().numpy()


def _first_rows(model: WorldModel, episodes: list[RecordedEpisode], rows: int, device: torch.device) -> SequenceBatch:
    def stack(arrays: list[NDArray[Any]]) -> torch.Tensor:
        return torch.as_tensor(np.stack(arrays), device=device)

    first = torch.zeros(len(episodes), rows, dtype=torch.bool, device=device)
    first[:, 0] = True
    nothing = torch.zeros_like(first)
    zero = np.zeros((1, model.spec.action.size), np.float32)
    return SequenceBatch(
        observations={name: stack([e.observations[name][:rows] for e in episodes]) for name in model.spec.observations},
        action=stack([np.concatenate([zero, e.actions[: rows - 1]]) for e in episodes]),
        reward=nothing.float(),
        is_first=first,
        is_last=nothing,
        is_terminal=nothing,
        privileged={},
        row=nothing.long(),
    )


def episode_table(episodes: list[RecordedEpisode], imagined: NDArray[np.float64], *, context: int) -> pd.DataFrame:
    """One row per episode."""
    return pd.DataFrame(
        {
            "seed": [episode.seed for episode in episodes],
            "return": [episode.total_reward for episode in episodes],
            "length": [len(episode.rewards) for episode in episodes],
            "return_after_context": [float(episode.rewards[context - 1 :].sum()) for episode in episodes],
            "imagined_return_after_context": imagined,
        }
    )


def summarize(settings: dict[str, Any], table: pd.DataFrame, lineage: Any) -> dict[str, float]:
    """Mean and interquartile mean with bootstrap intervals; the normalised score where references are known."""
    returns = table["return"].to_numpy(np.float64)
    options = {"confidence": settings["confidence"], "resamples": settings["resamples"]}
    metrics: dict[str, float] = {}
    for name, statistic in (("mean", mean), ("iqm", interquartile_mean)):
        estimate: Estimate = bootstrap([returns], statistic, **options)
        metrics |= {
            f"evaluation/return_{name}": estimate.value,
            f"evaluation/return_{name}_low": estimate.low,
            f"evaluation/return_{name}_high": estimate.high,
        }
    low, high = lineage["reference"]["low"], lineage["reference"]["high"]
    if low is not None and high is not None:
        metrics["evaluation/normalized_iqm"] = 100 * (metrics["evaluation/return_iqm"] - low) / (high - low)
    if table["imagined_return_after_context"].notna().all():
        metrics["evaluation/imagined_return"] = float(table["imagined_return_after_context"].mean())
        metrics["evaluation/real_return"] = float(table["return_after_context"].mean())
    metrics["evaluation/dataset_return"] = float(lineage["dataset_return"]["mean"])
    return metrics
