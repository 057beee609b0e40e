"""Stage ``collect``: records the chosen dataset into a local Minari dataset, or notes where an existing one lies."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.environments.recorder import record_episodes, write_minari
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.files import digest, write_json
from dreamset.pipeline.runtime import build_part, progress

REFERENCE_SEED = 2**18  # added to the recording's seed: other episodes than the recorded ones


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; see ``stages.collect`` for the configuration."""
    output = Path(config["output"])
    if config["recording"] is None:
        register(Path(config["source_path"]), output)
        return
    with replaced_folder(output) as fresh:
        record(config, fresh)


def record(config: dict[str, Any], root: Path) -> Path:
    """Records every episode below ``root``, with reference scores in the dataset's own metadata."""
    recording = config["recording"]
    environment = build_part(config["environment"])()
    scores = {
        name: _mean_return(config, policy, seed=recording["seed"] + REFERENCE_SEED)
        for name, policy in (config["reference"] or {}).items()
    }
    episodes: Iterator[RecordedEpisode] = record_episodes(
        environment, build_part(recording["policy"]), episodes=recording["episodes"], seed=recording["seed"]
    )
    return write_minari(
        root,
        recording["dataset_id"],
        environment,
        iter(progress(episodes, description="record", total=recording["episodes"])),
        reference=(scores["low"], scores["high"]) if scores else None,
        description=f"recorded by Dreamset: {config['dataset']}, {recording['episodes']} episodes",
    )


def _mean_return(config: dict[str, Any], policy: dict[str, Any], *, seed: int) -> float:
    environment = build_part(config["environment"])()
    count = config["recording"]["reference_episodes"]
    episodes = record_episodes(environment, build_part(policy), episodes=count, seed=seed)
    name = policy["_target_"].rpartition(".")[2]
    bar = progress(episodes, description=f"reference: {name}", total=count)
    return float(np.mean([episode.total_reward for episode in bar]))


def register(source: Path, output: Path) -> None:
    """Notes the state of a dataset that this project did not record, so that DVC sees when it is another one.

    Raises:
        UserError: if there is nothing at ``source``.
    """
    if not source.exists():
        raise UserError(f"dataset.source.path {source} does not exist; download or record the dataset first")
    files = sorted(path for path in [source, *source.rglob("*")] if path.is_file())
    state = [f"{path.relative_to(source.parent)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    with replaced_folder(output) as fresh:
        write_json(fresh / "source.json", {"path": str(source), "files": len(files), "state": digest(*state)})
