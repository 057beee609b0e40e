"""The training loop of all stages that train."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from dreamset.core.capabilities import uses_unacted
from dreamset.core.records import SequenceBatch
from dreamset.datasets import SequenceSampler, Store
from dreamset.datasets.batches import Columns
from dreamset.datasets.goals import LaterRows
from dreamset.datasets.prefetch import Prefetcher
from dreamset.datasets.stream import BatchStream
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import Batch
from dreamset.pipeline.progress import progress
from dreamset.pipeline.training import failed_update
from dreamset.pipeline.training.checkpoint import Checkpoint
from dreamset.pipeline.training.gradients import NotFiniteError

log = logging.getLogger(__name__)


class Trainer(Protocol):
    """Updates something with one batch at a time."""

    def step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One update; returns figures by name. ``NotFiniteError`` leaves the networks as they were."""

    def state_dict(self) -> dict[str, Any]:
        """The complete state that the next update depends on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""


TrainerT = TypeVar("TrainerT", bound=Trainer)


@dataclass(slots=True)
class Training(Generic[TrainerT]):
    """The state of a training: everything that an update changes."""

    trainer: TrainerT
    sampler: BatchStream
    history: list[dict[str, float]] = field(default_factory=list)  # one row per reported update
    update: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {
            "trainer": self.trainer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "history": self.history,
            "update": self.update,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.trainer.load_state_dict(state["trainer"])
        self.sampler.load_state_dict(state["sampler"])
        self.history, self.update, self.seconds = state["history"], state["update"], state["seconds"]


def advance(
    training: Training[TrainerT], updates: int, *, description: str, device: torch.device, checkpoint: Checkpoint
) -> Iterator[tuple["tqdm[int]", dict[str, Tensor]]]:
    """Trains up to ``updates``; yields the progress bar and the figures after each update.

    The caller handles an update before the checkpoint that contains it is written. The last update has a checkpoint,
    because what follows the training may fail.
    """
    first = training.update
    with progress(range(0), description=description, total=updates, initial=first, unit="update") as bar:
        for figures in take_updates(training, updates, device=device, checkpoint=checkpoint):
            bar.update()
            yield bar, figures
            checkpoint.save_if_due(training.state_dict)
    if training.update > first:
        checkpoint.save(training.state_dict())


def take_updates(
    training: Training[TrainerT], updates: int, *, device: torch.device, checkpoint: Checkpoint
) -> Iterator[dict[str, Tensor]]:
    """Trains up to ``updates``; yields the figures after each update, when ``training`` is ready for a checkpoint.

    Raises:
        UserError: if an update is not finite; its traces are kept beside the checkpoints.
    """
    began = time.monotonic() - training.seconds
    with Prefetcher(training.sampler, device=device) as batches:
        while training.update < updates:
            batch = batches.sample()
            try:
                figures = training.trainer.step(batch)
            except NotFiniteError as error:
                number, state = training.update + 1, training.trainer.state_dict()
                raise failed_update.report(
                    error, update=number, batch=batch, state=state, checkpoints=checkpoint.folder
                ) from error
            training.sampler.load_state_dict(batches.state_dict())
            training.update += 1
            training.seconds = time.monotonic() - began
            yield figures


class NoBatches(BatchStream):
    """For a behaviour that learns nothing, such as a planner: episodes of any length suit it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.spec, batch_size=1, length=1, seed=0)

    def fill(self, number: int, columns: Columns) -> NoReturn:  # noqa: ARG002
        """Nothing asks for a batch.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"batch {number} of a behaviour that learns nothing")


def build_sampler(
    batch: Batch,
    store: Store,
    *,
    seed: int,
    split: str = "train",
    acted: bool | None = True,
    goals: LaterRows | None = None,
) -> SequenceSampler:
    """Samples batches from a split; ``acted`` and ``goals`` are those of ``WindowSampler``."""
    return SequenceSampler(
        store,
        split=split,
        batch_size=batch.size,
        length=batch.length,
        seed=seed,
        crossing=batch.crossing,
        strategy=build_part(batch.strategy),
        acted=acted,
        goals=goals,
    )


def sampled_for(store: Store, *trained: object) -> bool | None:
    """Which episodes the trained parts sample, as ``acted``: all if each of them can do without actions."""
    if uses_unacted(*trained):
        return None
    unacted = int((~store.acted).sum())
    if unacted:
        log.info("%d of %d episodes have no actions and are left out of the training", unacted, len(store))
    return True


def recorded_batches(
    batch: Batch,
    store: Store,
    *,
    seed: int,
    device: torch.device,
    split: str = "train",
    goals: LaterRows | None = None,
) -> Iterator[SequenceBatch]:
    """An endless sequence of batches from a split, independent of a training's own sampler."""
    sampler = build_sampler(batch, store, seed=seed, split=split, goals=goals)
    while True:
        yield sampler.sample().to(device)
