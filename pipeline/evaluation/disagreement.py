"""How much an ensemble disagrees about recorded episodes: what they would teach a world model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.rewards.spreads import Variance
from dreamset.core.capabilities import Uncertain, require
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.core.states import map_state
from dreamset.datasets import Store
from dreamset.datasets.batches import copy_windows, empty_batch
from dreamset.datasets.windows import EpisodeSlice
from dreamset.pipeline.artifacts.compatibility import described
from dreamset.pipeline.artifacts.saved_models import load_world_model
from dreamset.pipeline.training.devices import choose_device

EPISODES, ROWS = 16, 128  # at most so many are in memory at once


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """The disagreement about the transitions of one episode."""

    mean: float
    highest: float
    highest_row: int  # the arrival row of this transition


def episode_scores(
    store: Store, folder: Path, *, on_episode: Callable[[], None] = lambda: None
) -> tuple[EpisodeScore, ...]:
    """The score of every episode of a store by the ensemble of the world model in ``folder``.

    The disagreement about a transition is that of the bonus ``reward=disagreement``. States are filtered over the whole
    episode; random numbers are the same in every call.

    Raises:
        UserError: if the store has no episodes or some without actions, the model has no ensemble, or it does not fit
            the columns of the store.
    """
    if not len(store.lengths):
        raise UserError(f"{store.path} has no episodes to score; ingest some first")
    store.require_actions("the disagreement about transitions")
    device = choose_device("auto")
    model, _ = load_world_model(folder, device)
    require(model, Uncertain, by=f"scoring with {folder}")
    require_columns(model.spec, store, folder)
    generator = torch.Generator(device).manual_seed(0)
    order = np.argsort(store.lengths, kind="stable")  # neighbours have similar lengths
    scores: dict[int, EpisodeScore] = {}
    for first in range(0, len(order), EPISODES):
        episodes = order[first : first + EPISODES].tolist()
        for episode, values in zip(episodes, transitions(model, store, episodes, generator), strict=True):
            highest = int(values.argmax())
            scores[episode] = EpisodeScore(float(values.mean()), float(values[highest]), highest + 1)
            on_episode()
    return tuple(scores[episode] for episode in range(len(order)))


@torch.no_grad()
def transitions(
    model: Any, store: Store, episodes: Sequence[int], generator: torch.Generator
) -> list[NDArray[np.float64]]:
    """The disagreement about every transition of each episode, in order; ``ROWS`` rows at a time."""
    device = generator.device
    lengths = [int(store.lengths[episode]) for episode in episodes]
    parts: list[Tensor] = []
    before: tuple[Any, Tensor] | None = None  # the states and features of the last row so far
    for start in range(0, max(lengths), ROWS):
        stop = min(start + ROWS, max(lengths))
        batch = rows_of(store, episodes, start, stop).to(device)
        rollout = model.observe(batch, generator, None if before is None else before[0])
        states, features = rollout.states, rollout.features
        action = model.spec.action.normalize(batch.action)
        last = map_state(lambda value: value[:, -1], states), features[:, -1]
        if before is not None:  # the first transition begins in the rows before
            states = map_state(lambda row, rows: torch.cat([row[:, None], rows], dim=1), before[0], states)
            features = torch.cat([before[1][:, None], features], dim=1)
            action = torch.cat([torch.zeros_like(action[:, :1]), action], dim=1)  # nothing reads that of the first row
        spread = Variance()(model.members(ImaginedTrajectory.recorded(states, features, action)))
        parts.append(spread[1:].t())
        before = last
    values = torch.cat(parts, dim=1).double().cpu().numpy()  # [B, longest - 1]
    return [row[: length - 1] for row, length in zip(values, lengths, strict=True)]


def rows_of(store: Store, episodes: Sequence[int], start: int, stop: int) -> SequenceBatch:
    """Rows ``start`` to ``stop`` of each episode; where an episode is shorter, its last row is repeated."""
    batch, columns = empty_batch(replace(store.spec, privileged={}), len(episodes), stop - start)
    copy_windows(store, (_padded(episode, int(store.lengths[episode]), start, stop) for episode in episodes), columns)
    return batch


def _padded(episode: int, length: int, start: int, stop: int) -> list[EpisodeSlice]:
    end = max(min(stop, length), start)
    last = EpisodeSlice(episode, length - 1, length)
    return [EpisodeSlice(episode, start, end)] * (end > start) + [last] * (stop - end)


def require_columns(model: DataSpec, store: Store, folder: Path) -> None:
    """Checks that the store has what the model reads; other bounds of actions are no obstacle."""
    needed, found = described(model), described(store.spec)
    for name, wanted in needed.items():
        if name != "action bounds" and found.get(name) != wanted:
            raise UserError(
                f"{store.path}: its {name} is {found.get(name, 'missing')}, but the world model in {folder} reads "
                f"{wanted}; choose a model that was trained on the same columns"
            )
