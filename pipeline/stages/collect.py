"""Stage ``collect``: records the chosen dataset into a local Minari dataset, or notes where an existing one lies."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.environments import parallel
from dreamset.environments.recorder import write_minari
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.files import digest, write_json
from dreamset.pipeline.progress import byte_counter, progress

REFERENCE_SEED = 2**18  # added to the recording's seed: other episodes than the recorded ones


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; see ``stages.collect`` for the configuration."""
    output = Path(config["output"])
    if config["recording"] is None:
        register(fetched(config), output)
        return
    with replaced_folder(output) as fresh:
        record(config, fresh)


def record(config: dict[str, Any], root: Path) -> Path:
    """Records every episode below ``root``, with reference scores in the dataset's own metadata."""
    recording = config["recording"]
    scores = {
        name: _mean_return(config, policy, seed=recording["seed"] + REFERENCE_SEED)
        for name, policy in (config["reference"] or {}).items()
    }
    count = recording["episodes"]
    with (
        closing(build_part(config["environment"])()) as environment,  # for its spaces
        closing(_episodes(config, recording["policy"], episodes=count, seed=recording["seed"])) as episodes,
    ):
        return write_minari(
            root,
            recording["dataset_id"],
            environment,
            iter(progress(episodes, description="record", total=count)),
            reference=(scores["low"], scores["high"]) if scores else None,
            description=f"recorded by Dreamset: {config['dataset']}, {count} episodes",
            algorithm=_short_name(recording["policy"]),
        )


def _episodes(
    config: dict[str, Any], policy: dict[str, Any], *, episodes: int, seed: int
) -> Generator[RecordedEpisode, None, None]:
    make, make_policy = build_part(config["environment"]), build_part(policy)
    workers = config["recording"].get("workers", 1)
    return parallel.record(make, make_policy, episodes=episodes, seed=seed, workers=workers)


def _mean_return(config: dict[str, Any], policy: dict[str, Any], *, seed: int) -> float:
    count = config["recording"]["reference_episodes"]
    with closing(_episodes(config, policy, episodes=count, seed=seed)) as episodes:
        bar = progress(episodes, description=f"reference: {_short_name(policy)}", total=count)
        return float(np.mean([episode.total_reward for episode in bar]))


def _short_name(policy: dict[str, Any]) -> str:
    return str(policy["_target_"]).rpartition(".")[2]


def fetched(config: dict[str, Any]) -> Path:
    """Where the dataset lies, after it was downloaded if its yaml says from where.

    Raises:
        UserError: if the dataset's yaml says neither where it lies nor where it can be downloaded.
    """
    if config["fetch"] is None:
        if config["source_path"] is None:
            raise UserError(
                f"dataset={config['dataset']}: its source has no path, so nobody could tell when the data change; give "
                "dataset.source.path, the file or folder that it reads"
            )
        return Path(config["source_path"])
    with byte_counter(description="download") as on_bytes:
        return Path(build_part(config["fetch"], on_bytes=on_bytes))


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
