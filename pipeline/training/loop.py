"""The training loop that both learners share."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from dreamset.core.records import SequenceBatch
from dreamset.datasets import SequenceSampler, Store
from dreamset.datasets.prefetch import Prefetcher
from dreamset.datasets.stream import BatchStream
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.progress import progress
from dreamset.pipeline.training.checkpoint import Checkpoint


class Trainer(Protocol):
    """Learns from one batch at a time."""

    def step(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One update; figures by name."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""


TrainerT = TypeVar("TrainerT", bound=Trainer)


@dataclass(slots=True)
class Training(Generic[TrainerT]):
    """Everything that changes while something is trained."""

    trainer: TrainerT
    sampler: BatchStream
    history: list[dict[str, float]] = field(default_factory=list)  # one row per reported update
    update: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "trainer": self.trainer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "history": self.history,
            "update": self.update,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.trainer.load_state_dict(state["trainer"])
        self.sampler.load_state_dict(state["sampler"])
        self.history, self.update, self.seconds = state["history"], state["update"], state["seconds"]


def advance(
    training: Training[TrainerT], updates: int, *, description: str, device: torch.device, checkpoint: Checkpoint
) -> Iterator[tuple["tqdm[int]", dict[str, Tensor]]]:
    """Trains up to ``updates``; yields the progress bar and the figures after every update.

    What the caller does with an update is done before the checkpoint that holds it is written.
    """
    with progress(range(0), description=description, total=updates, initial=training.update) as bar:
        for figures in take_updates(training, updates, device=device):
            bar.update()
            yield bar, figures
            checkpoint.save_if_due(training.state_dict)


def take_updates(training: Training[TrainerT], updates: int, *, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Trains up to ``updates``; yields the figures after every update, when ``training`` is as a resume needs it."""
    began = time.monotonic() - training.seconds
    with Prefetcher(training.sampler, device=device) as batches:
        while training.update < updates:
            figures = training.trainer.step(batches.sample())
            training.sampler.load_state_dict(batches.state_dict())
            training.update += 1
            training.seconds = time.monotonic() - began
            yield figures


def build_sampler(settings: Mapping[str, Any], store: Store, *, seed: int) -> SequenceSampler:
    """Batches of the training split, as the ``batch`` entry of a training's settings says."""
    return SequenceSampler(
        store,
        split="train",
        batch_size=settings["size"],
        length=settings["length"],
        seed=seed,
        crossing=settings["crossing"],
        strategy=build_part(settings["strategy"]),
    )
