"""Online data: the episodes that fine-tuning collects, in a store of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec, DataSpec
from dreamset.datasets import Store
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.extension import extend
from dreamset.datasets.goals import LaterRows
from dreamset.datasets.mixing import MixedSampler, Part
from dreamset.datasets.sampler import WindowSampler
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.splits import TRAIN
from dreamset.datasets.store_source import StoreSource
from dreamset.datasets.transforms import Transform, transformed
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import Batch

FIRST_SEED, LAST_SEED = 2**19, 10**6  # recordings use the seeds below, evaluations those above


@dataclass(frozen=True, slots=True)
class RecordedSource:
    """A source of episodes in memory, with given columns."""

    episodes: Sequence[RecordedEpisode]
    description: SourceDescription

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    def describe(self) -> SourceDescription:
        """The kept columns; the environment may have more."""
        return self.description

    def read(self, number: int) -> RawEpisode:
        """One episode, with the kept columns."""
        episode = self.episodes[number]
        return RawEpisode(
            f"online episode {number} (seed {episode.seed})",
            _typed(episode.observations, self.description.observations),
            episode.actions,
            episode.rewards,
            episode.terminated,
            _typed(episode.infos, self.description.privileged),
        )


def _typed(columns: Mapping[str, Array], specs: Mapping[str, ArraySpec]) -> dict[str, Array]:
    """The columns of the data, as numbers of their types; images stay bytes, so that other numbers are an error."""
    return {
        name: columns[name] if columns[name].dtype == np.uint8 else columns[name].astype(_number(spec))
        for name, spec in specs.items()
    }


def _number(spec: ArraySpec) -> str:
    return spec.dtype if spec.is_patches else "float32"


@dataclass(slots=True)
class OnlineData:
    """The growing store of one fine-tuning.

    Episodes are added in rounds, each of them atomically. A round that a killed process wrote, but that no checkpoint
    counts, is collected again.
    """

    path: Path
    spec: DataSpec  # of the offline data
    provenance: dict[str, Any]
    transforms: Sequence[Transform]
    episodes: int = 0  # in the rounds that count

    def add(self, collected: Sequence[RecordedEpisode]) -> Store:
        """Adds one round and returns the store.

        Raises:
            UserError: if the episodes lack an observation of the offline data.
        """
        source = RecordedSource(collected, self._describe(collected[0]))
        store = extend(self.path, transformed(source, list(self.transforms)), after=self.episodes)
        self.episodes = len(store.lengths)
        return store

    def store(self) -> Store:
        """The store, without rounds that do not count."""
        store = Store.open(self.path)
        if len(store.lengths) > self.episodes:
            empty: Source = RecordedSource([], StoreSource(self.path).describe())
            store = extend(self.path, empty, after=self.episodes)
        return store

    def _describe(self, episode: RecordedEpisode) -> SourceDescription:
        """The columns of the offline data, with the privileged columns that the environment offers."""
        missing = sorted(self.spec.observations.keys() - episode.observations.keys())
        if missing:
            raise UserError(
                f"dataset.environment has the observations {', '.join(sorted(episode.observations))}; "
                f"the model needs {', '.join(missing)}; change the settings of the environment"
            )
        known = {
            name: array
            for name, array in self.spec.privileged.items()
            if name in episode.infos and episode.infos[name].shape[1:] == array.shape
        }
        return SourceDescription(self.spec.observations, known, self.spec.action, self.provenance)


def mixed(
    offline: Store,
    online: Store | None,
    batch: Batch,
    *,
    online_share: float,
    seed: int,
    goals: LaterRows | None = None,
) -> MixedSampler:
    """Samples batches from both stores; from one alone while the other has no window, or if its share is 0.

    Args:
        offline: the data that the model was trained on.
        online: the data collected so far.
        batch: size and windows of a batch.
        online_share: share of the online sequences in a batch, on average over the batches; 0 to 1.
        seed: of the random draws.
        goals: how the goals of windows are drawn; None: windows have no goals.

    Raises:
        UserError: if the stores have different columns.
    """
    shares = ((offline, 1 - online_share), (online, online_share))
    parts = [Part(_windows(store, batch, goals), share) for store, share in shares if share > 0]
    if all(part.source is None for part in parts):  # before the first round, whatever the share
        parts = [Part(_windows(offline, batch, goals), 1.0)]
    return MixedSampler(parts, batch_size=batch.size, seed=seed)


def _windows(store: Store | None, batch: Batch, goals: LaterRows | None) -> WindowSampler | None:
    """The windows of the store; None if there is no store, or it has no window."""
    if store is None:
        return None
    rows = store.lengths[store.split(TRAIN)]
    if (rows.sum() if batch.crossing else rows.max()) < batch.length:
        return None
    return WindowSampler(
        store,
        split=TRAIN,
        length=batch.length,
        crossing=batch.crossing,
        strategy=build_part(batch.strategy),
        privileged=False,
        goals=goals,
    )


def round_seeds(seed: int, number: int, count: int) -> tuple[list[int], int]:
    """Seeds of the environments and of the policy in round ``number``, the same whenever it is collected."""
    generator = np.random.default_rng([seed, number])
    return generator.integers(FIRST_SEED, LAST_SEED, size=count).tolist(), int(generator.integers(2**63))
