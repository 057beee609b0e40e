"""Writes a source into a store: checks, aligns, splits and describes the episodes one by one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.datasets.duplicates import Fingerprints
from dreamset.datasets.episode import Episode, Lost, RawEpisode, align
from dreamset.datasets.layout import MANIFEST, write_manifest
from dreamset.datasets.read_ahead import read_ahead
from dreamset.datasets.shard_writer import ManifestBuilder, ShardWriter
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.splits import declared_splits, split_kinds
from dreamset.datasets.store import Store
from dreamset.datasets.windows import Indices

ON_INVALID = ("error", "quarantine")

_Read: TypeAlias = tuple[Episode, RawEpisode]  # the episode, and what was recorded, without its arrays


def write_store(
    source: Source,
    path: str | Path,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    splits: Callable[[Sequence[int]], Mapping[str, Indices]] | None = None,
    on_invalid: str = "error",
    compression: str | None = None,
    shard_bytes: int = 64 << 20,
    workers: int = 2,
    on_episode: Callable[[int], None] | None = None,
) -> Store:
    """Writes every episode of ``source`` into the folder ``path`` and opens it.

    At most ``workers + 1`` episodes and one shard, as episodes and as a file, are in memory. An existing store at
    ``path`` is replaced when the new store is complete, and kept if anything fails. Equal input gives equal bytes,
    whatever the number of workers.

    Args:
        source: the episodes.
        path: the store's folder.
        validation_fraction: share of the episodes for validation, drawn from ``seed``, unless episodes declare a split.
            Episodes with and without actions, demonstrations and others are drawn separately, each with this share.
        seed: of the split.
        splits: function that replaces the random split; it maps the numbers of the kept episodes in the source to
            positions among them, by split name.
        on_invalid: ``error`` stops at the first invalid episode; ``quarantine`` skips invalid episodes and lists each
            with the reason in ``dataset.json``.
        compression: lossless compression by name (``compression.FILTERS``); None writes columns that can be
            memory-mapped.
        shard_bytes: size at which a shard is closed.
        workers: threads that read and decode episodes.
        on_episode: called with the number of finished episodes.

    Raises:
        UserError: if an episode does not match the source's description, or ``path`` exists and is not a store.
    """
    if on_invalid not in ON_INVALID:
        raise UserError(f"on_invalid is {on_invalid!r}; allowed: {' or '.join(ON_INVALID)}; fix the settings")
    target = Path(path)
    _require_replaceable(target)
    description = source.describe()
    _require_action_space(description)
    with replaced_folder(target) as folder, ThreadPoolExecutor(1, thread_name_prefix="checksum") as hashing:
        shards = ShardWriter(folder, description, hashing, compression=compression, shard_bytes=shard_bytes)
        losses, count = Losses(), on_episode or _nobody
        kept, quarantined = _write_valid(source, description, shards, losses, workers, on_invalid, count)
        shards.flush()
        with _doubted(description):
            shares, drawn = _split(kept, splits, validation_fraction=validation_fraction, seed=seed)
        written = ManifestBuilder(folder, description, shards, shares).manifest()
        chosen = {"split_settings": drawn, "compression": compression}
        found = {"quarantined": quarantined, "lost": asdict(losses), "doubts": list(description.doubts)}
        write_manifest(folder, written | chosen | found)
    return Store.open(target)


def _split(
    kept: "Kept",
    given: Callable[[Sequence[int]], Mapping[str, Indices]] | None,
    *,
    validation_fraction: float,
    seed: int,
) -> tuple[dict[str, Indices], dict[str, Any]]:
    """The split of the kept episodes: given, declared by the data, or drawn; and its settings for the manifest."""
    if given is not None:
        return dict(given(kept.numbers)), {"given": True}
    if any(kept.declared):
        return declared_splits(kept.declared), {"declared": True}
    drawn = {"validation_fraction": validation_fraction, "seed": seed}
    return split_kinds(kept.kinds, validation_fraction=validation_fraction, seed=seed), drawn


@contextmanager
def _doubted(description: SourceDescription) -> Iterator[None]:
    """Adds the reader's doubts to an error: a recording that was not cut may be a single episode."""
    try:
        yield
    except UserError as error:
        raise UserError("; ".join([str(error), *description.doubts])) from error


@dataclass(frozen=True, slots=True)
class Kept:
    """The kept episodes: their numbers in the source, the splits that they declare, and their marks."""

    numbers: list[int]
    declared: list[str | None]
    kinds: list[tuple[bool, bool]]  # whether the episode has actions, and whether it is a demonstration


@dataclass(slots=True)
class Losses:
    """What readers left out at the ends of the kept episodes."""

    episodes: int = 0
    transitions: int = 0
    reward: float = 0.0
    terminals: int = 0

    def add(self, lost: Lost) -> None:
        """Counts what one episode lost."""
        self.episodes += lost.transitions > 0
        self.transitions += lost.transitions
        self.reward += lost.reward
        self.terminals += lost.terminal


def _write_valid(
    source: Source,
    description: SourceDescription,
    shards: ShardWriter,
    losses: Losses,
    workers: int,
    on_invalid: str,
    on_episode: Callable[[int], None],
) -> tuple[Kept, list[dict[str, Any]]]:
    """The kept episodes, and the quarantined episodes with reasons."""
    fingerprints = Fingerprints()
    kept = Kept([], [], [])
    quarantined: list[dict[str, Any]] = []

    def read(number: int) -> _Read:
        raw = source.read(number)
        return align(raw, description), _without_arrays(raw)

    with closing(read_ahead(read, source.episode_count, workers=workers)) as results:
        for number in range(source.episode_count):
            try:
                episode, recorded = _only_new(next(results), fingerprints)
            except UserError as error:
                if on_invalid == "error":
                    raise
                quarantined.append({"episode": number, "reason": str(error)})
            else:
                shards.add(episode)
                losses.add(recorded.lost)
                kept.numbers.append(number)
                kept.declared.append(recorded.split)
                kept.kinds.append((episode.acted, episode.demonstration))
                del episode  # frees the memory while the next episode is awaited
            on_episode(number + 1)
    _require_some(kept.numbers, quarantined)
    return kept, quarantined


def _without_arrays(raw: RawEpisode) -> RawEpisode:
    nothing = np.zeros(0, np.float32)
    return replace(raw, observations={}, actions=nothing, rewards=nothing, privileged={})


def _only_new(result: _Read | UserError, fingerprints: Fingerprints) -> _Read:
    if isinstance(result, UserError):
        raise result
    episode, recorded = result
    fingerprints.add(episode, recorded.name)
    return result


def _require_some(kept: Sequence[int], quarantined: Sequence[Mapping[str, Any]]) -> None:
    if quarantined and not kept:
        raise UserError(f"all {len(quarantined)} episodes are invalid; the first one: {quarantined[0]['reason']}")


def _require_action_space(description: SourceDescription) -> None:
    if not description.action.size:
        raise UserError(
            "no episode has actions and the action space is unknown; set dataset.source.action_size, with discrete or "
            "with action_low and action_high, or join them with episodes that have actions (dataset=parts)"
        )


def _nobody(_episodes: int) -> None:
    """Default of ``on_episode``: ignores the progress."""


def _require_replaceable(path: Path) -> None:
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not (path / MANIFEST).is_file():
        raise UserError(f"{path}: exists and is not a Dreamset dataset, so it is not replaced; choose another path")
