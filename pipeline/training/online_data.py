"""What a policy collects while it is fine-tuned: episodes from the environment into a store of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.spec import DataSpec
from dreamset.datasets import Store
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.extension import extend
from dreamset.datasets.mixing import MixedSampler, Part
from dreamset.datasets.sampler import WindowSampler
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.splits import TRAIN
from dreamset.datasets.store_source import StoreSource
from dreamset.datasets.transforms import Transform, transformed
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.config.instantiate import build_part

FIRST_SEED, LAST_SEED = 2**19, 10**6  # recordings reset with seeds below, evaluations above


@dataclass(frozen=True, slots=True)
class RecordedSource:
    """Episodes in memory as a source with given columns."""

    episodes: Sequence[RecordedEpisode]
    description: SourceDescription

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""
        return len(self.episodes)

    def describe(self) -> SourceDescription:
        """The columns that are kept; an environment may show more."""
        return self.description

    def read(self, number: int) -> RawEpisode:
        """The episode with the columns of the description."""
        episode = self.episodes[number]
        return RawEpisode(
            f"online episode {number} (seed {episode.seed})",
            {name: _typed(episode.observations[name]) for name in self.description.observations},
            episode.actions,
            episode.rewards,
            episode.terminated,
            {name: _typed(episode.infos[name]) for name in self.description.privileged},
        )


def _typed(values: Array) -> Array:
    return values if values.dtype == np.uint8 else values.astype(np.float32)


@dataclass(slots=True)
class OnlineData:
    """The growing store of one fine-tuning.

    Its episodes come in rounds; a round is there as a whole or not at all, and one that a killed process collected
    without noting so is collected again.
    """

    path: Path
    spec: DataSpec  # of the offline data
    provenance: dict[str, Any]
    transforms: Sequence[Transform]
    episodes: int = 0  # how many count

    def add(self, collected: Sequence[RecordedEpisode]) -> Store:
        """The store with one more round.

        Raises:
            UserError: if the episodes do not hold what the offline data hold.
        """
        source = RecordedSource(collected, self._describe(collected[0]))
        store = extend(self.path, transformed(source, list(self.transforms)), after=self.episodes)
        self.episodes = len(store.lengths)
        return store

    def store(self) -> Store:
        """The store as it was when ``episodes`` of it counted."""
        store = Store.open(self.path)
        if len(store.lengths) > self.episodes:
            nothing: Source = RecordedSource([], StoreSource(self.path).describe())
            store = extend(self.path, nothing, after=self.episodes)
        return store

    def _describe(self, episode: RecordedEpisode) -> SourceDescription:
        """The offline columns; of the privileged ones those that the environment informs of."""
        missing = sorted(self.spec.observations.keys() - episode.observations.keys())
        if missing:
            raise UserError(
                f"dataset.environment does not show {missing}, which the model looks at; it shows "
                f"{sorted(episode.observations)}; mend its settings"
            )
        known = {
            name: array
            for name, array in self.spec.privileged.items()
            if name in episode.infos and episode.infos[name].shape[1:] == array.shape
        }
        return SourceDescription(self.spec.observations, known, self.spec.action, self.provenance)


def mixed(
    offline: Store, online: Store | None, settings: Mapping[str, Any], *, online_share: float, seed: int
) -> MixedSampler:
    """Batches of both stores; of one alone while the other has no window, or if its share is 0.

    Args:
        offline: what the model was trained on.
        online: what was collected so far.
        settings: ``batch``, as the trainings have it.
        online_share: of the sequences of a batch, on average over the batches.
        seed: of the draws.

    Raises:
        UserError: if the share is none, or the stores hold different columns.
    """
    if not 0 <= online_share <= 1:
        raise UserError(f"finetuning.online_share is {online_share}, allowed is 0 to 1; mend it")
    shares = ((offline, 1 - online_share), (online, online_share))
    parts = [Part(_windows(store, settings), share) for store, share in shares if share > 0]
    if all(part.source is None for part in parts):  # before anything was collected, whatever the share
        parts = [Part(_windows(offline, settings), 1.0)]
    return MixedSampler(parts, batch_size=settings["size"], seed=seed)


def _windows(store: Store | None, settings: Mapping[str, Any]) -> WindowSampler | None:
    """The store's windows, or None while there is none."""
    if store is None:
        return None
    length, crossing = settings["length"], settings["crossing"]
    rows = store.lengths[store.split(TRAIN)]
    if (rows.sum() if crossing else rows.max()) < length:
        return None
    strategy = build_part(settings["strategy"])
    return WindowSampler(store, split=TRAIN, length=length, crossing=crossing, strategy=strategy, privileged=False)


def round_seeds(seed: int, number: int, count: int) -> tuple[list[int], int]:
    """Seeds of the environments of round ``number`` and of the policy's draws: the same whenever it is collected."""
    generator = np.random.default_rng([seed, number])
    return generator.integers(FIRST_SEED, LAST_SEED, size=count).tolist(), int(generator.integers(2**63))
