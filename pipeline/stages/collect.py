"""Stage ``collect``: records the dataset as a local Minari dataset, or notes the state of an existing dataset."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, user_path
from dreamset.datasets.sources.folder import walk
from dreamset.environments import parallel
from dreamset.environments.recorder import write_minari
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import Part, Recording, Reference
from dreamset.pipeline.files import digest, write_json
from dreamset.pipeline.progress import byte_counter, progress
from dreamset.pipeline.stages.environment import environment_factory, require_environment
from dreamset.pipeline.stages.settings import Collect

REFERENCE_SEED = 2**18  # added to the seed of the recording, so that reference episodes differ from recorded ones


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; ``Collect`` describes the settings."""
    settings = Collect.of(**config)
    output = Path(settings.output)
    if settings.recording is None:
        register(existing_dataset(settings), output)
        return
    with replaced_folder(output) as folder:
        record(settings, folder)


def record(settings: Collect, root: Path) -> Path:
    """Records every episode below ``root``; the reference scores are in the metadata of the dataset.

    Raises:
        UserError: if the dataset has no environment.
    """
    recording = settings.recording
    assert recording is not None
    environment = require_environment(settings.environment, stage="collect", remedy="set dataset.recording to null")
    make = environment_factory(environment, settings.episode_limits, output=settings.output)
    recorder = Recorder(make, recording)
    reference = None if settings.reference is None else recorder.reference_returns(settings.reference)
    with (
        closing(make()) as playing,  # for its spaces
        closing(recorder.episodes(recording.policy, count=recording.episodes, seed=recording.seed)) as episodes,
    ):
        return write_minari(
            root,
            recording.dataset_id,
            playing,
            iter(progress(episodes, description="record", total=recording.episodes)),
            reference=reference,
            description=f"recorded by Dreamset: {settings.dataset}, {recording.episodes} episodes",
            algorithm=_short_name(recording.policy),
        )


@dataclass(frozen=True, slots=True)
class Recorder:
    """Runs policies in the environment, in several processes."""

    make: Callable[[], Environment]
    recording: Recording

    def episodes(self, policy: Part, *, count: int, seed: int) -> Generator[RecordedEpisode, None, None]:
        """``count`` episodes of ``policy``."""
        workers = self.recording.workers
        return parallel.record(self.make, build_part(policy), episodes=count, seed=seed, workers=workers)

    def reference_returns(self, reference: Reference) -> tuple[float, float]:
        """The mean returns of the low and the high reference policy."""
        return self._mean_return(reference.low), self._mean_return(reference.high)

    def _mean_return(self, policy: Part) -> float:
        count, seed = self.recording.reference_episodes, self.recording.seed + REFERENCE_SEED
        with closing(self.episodes(policy, count=count, seed=seed)) as episodes:
            bar = progress(episodes, description=f"measure the reference {_short_name(policy)}", total=count)
            return float(np.mean([episode.total_reward for episode in bar]))


def _short_name(policy: Part) -> str:
    return str(policy["_target_"]).rpartition(".")[2]


def existing_dataset(settings: Collect) -> list[Path]:
    """The paths of a dataset that is not recorded here, downloaded first if its yaml has ``fetch``.

    Raises:
        UserError: if the yaml of the dataset has neither a path nor a download.
    """
    if settings.fetch is None:
        if settings.source_path is None:
            raise UserError(
                f"dataset={settings.dataset}: dataset.source.path is null, so changes of the data cannot be detected; "
                "set it to the file or folder that the source reads"
            )
        named = [settings.source_path] if isinstance(settings.source_path, str) else settings.source_path
        return [user_path(path) for path in named]
    with byte_counter(description="download") as on_bytes:
        return [Path(build_part(settings.fetch, on_bytes=on_bytes))]


def register(sources: Sequence[Path], output: Path) -> None:
    """Writes the state of a dataset that this project did not record, so that DVC detects changes of it.

    Raises:
        UserError: if one of ``sources`` does not exist.
    """
    state = [line for source in sources for line in _state(source)]
    named = {"path": str(sources[0])} if len(sources) == 1 else {"paths": [str(source) for source in sources]}
    with replaced_folder(output) as folder:
        write_json(folder / "source.json", {**named, "files": len(state), "state": digest(*state)})


def _state(source: Path) -> list[str]:
    """Name, size and time of every file."""
    if not source.exists():
        raise UserError(f"dataset.source.path {source} does not exist; download or record the dataset first")
    files = sorted(walk(source)) if source.is_dir() else [source]
    return [f"{path.relative_to(source.parent)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
