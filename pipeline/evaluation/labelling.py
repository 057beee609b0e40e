"""Fills in the actions of episodes that have none, by an inverse dynamics model (Baker et al. 2022, "VPT")."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.core.capabilities import ActionFree, LabelsActions, require
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets import Store
from dreamset.datasets.labelled import write_labelled
from dreamset.datasets.sampler import episode
from dreamset.datasets.splits import VALIDATION
from dreamset.pipeline.artifacts.acting import LEARN
from dreamset.pipeline.artifacts.compatibility import described
from dreamset.pipeline.artifacts.description import model_digest
from dreamset.pipeline.artifacts.saved_models import POLICY, load_behavior, load_world_model, read_description
from dreamset.pipeline.evaluation.disagreement import require_columns
from dreamset.pipeline.export.program import require_pair
from dreamset.pipeline.training.devices import choose_device

MOST_CHECKED = 100  # held-out episodes whose actions are compared

Actions = NDArray[np.float32]  # [N, A] in the environment's units


@dataclass(frozen=True, slots=True)
class LabelError:
    """How far labels are from recorded actions, in held-out episodes that have actions."""

    error: float  # see ``difference``
    baseline: float  # the same for the best constant action
    unit: str  # what both are
    transitions: int


@dataclass(frozen=True, slots=True)
class Labeller:
    """A world model and an inverse dynamics model that was learned in it."""

    model: Any
    behavior: LabelsActions
    device: torch.device
    seed: int

    @torch.no_grad()
    def actions(self, store: Store, number: int) -> Actions:
        """The estimated actions of an episode; the recorded ones are not used."""
        batch = episode(store, number).to(self.device)
        generator = torch.Generator(self.device).manual_seed(_seed(self.seed, number))
        features = self.model.observe(batch, generator).features[0]  # [N + 1, F]
        spec = self.model.spec.action
        labels = within(spec, self.behavior.label(features[:-1], features[1:], generator))
        return np.asarray(spec.denormalize(labels).float().cpu().numpy(), np.float32)

    def error(self, store: Store, on_episode: Callable[[], None]) -> LabelError | None:
        """The error on the first held-out episodes with actions; None if there are none."""
        labels: list[Actions] = []
        recorded: list[Actions] = []
        for number in checked_episodes(store):
            labels.append(self.actions(store, number))
            recorded.append(np.asarray(store.read(number)["action"][1:], np.float32))
            on_episode()
        if not recorded:
            return None
        truth, spec = np.concatenate(recorded), store.spec.action
        error = difference(spec, np.concatenate(labels), truth)
        constant = np.broadcast_to(_best_constant(spec, truth), truth.shape)
        return LabelError(error, difference(spec, constant, truth), _unit(spec), len(truth))


def load_labeller(store: Store, world_model: Path, policy: Path, *, seed: int) -> Labeller:
    """The models in both folders, for the episodes of ``store``.

    Raises:
        UserError: if the policy labels no actions, was learned in another world model, or needs actions for its states,
            or if the store has other columns or another action.
    """
    device = choose_device("auto")
    model, saved_model = load_world_model(world_model, device)
    require_pair(world_model, saved_model, policy, read_description(policy, made_by=LEARN, kind=POLICY))
    behavior = load_behavior(policy, device)
    if not isinstance(behavior, LabelsActions):
        raise UserError(
            f"{policy}: {type(behavior).__name__} does not label actions; choose a policy of behavior=inverse_dynamics"
        )
    require(model, ActionFree, by=f"labelling with {policy}")
    require_columns(model.spec, store, world_model)
    if model.spec.action != store.spec.action:
        trained, found = (described(spec)["action bounds"] for spec in (model.spec, store.spec))
        raise UserError(
            f"{store.path}: its action bounds are {found}, those of {world_model} are {trained}; ingest the store with "
            f"the same bounds"
        )
    return Labeller(model, behavior, device, seed)


def label_store(
    store: Store,
    output: Path,
    *,
    world_model: Path,
    policy: Path,
    seed: int = 0,
    on_episode: Callable[[], None] = lambda: None,
) -> tuple[Store, LabelError | None]:
    """Writes ``store`` with the actions that its episodes lack, and measures the error on held-out recorded actions.

    Raises:
        UserError: see ``load_labeller``; also if no episode lacks actions.
    """
    unacted = np.flatnonzero(~store.acted)
    if not len(unacted):
        raise UserError(f"{store.path}: all {len(store)} episodes have actions; there is nothing to label")
    labeller = load_labeller(store, world_model, policy, seed=seed)
    error = labeller.error(store, on_episode)
    facts = {
        "policy": model_digest(policy),
        "world_model": model_digest(world_model),
        "seed": seed,
        "of": store.digest,
        "episodes": len(unacted),
        "transitions": int((store.lengths[unacted] - 1).sum()),
        "held_out": None if error is None else asdict(error),
    }
    return write_labelled(store, output, lambda number: labeller.actions(store, number), facts, on_episode), error


def checked_episodes(store: Store) -> list[int]:
    """The held-out episodes with actions, on which the error is measured: the first ones, perhaps none."""
    held_out = store.split(VALIDATION, acted=None) if VALIDATION in store.info["splits"] else np.zeros(0, np.int64)
    numbers: list[int] = held_out[store.acted[held_out]][:MOST_CHECKED].tolist()
    return numbers


def within(spec: ActionSpec, labels: Tensor) -> Tensor:
    """Labels as allowed actions: one-hot, or between -1 and 1 if there are bounds."""
    if spec.discrete:
        return torch.nn.functional.one_hot(labels.argmax(-1), spec.size).to(labels.dtype)
    return labels.clamp(-1, 1) if spec.bounded else labels


def difference(spec: ActionSpec, labels: Actions, truth: Actions) -> float:
    """The error in the unit of ``_unit``, a mean over all elements."""
    if spec.discrete:
        return float((labels.argmax(-1) != truth.argmax(-1)).mean())
    reach = np.array(spec.high) - np.array(spec.low) if spec.bounded else np.ones(spec.size)
    return float((np.abs(labels.astype(np.float64) - truth) / reach).mean())


def _unit(spec: ActionSpec) -> str:
    if spec.discrete:
        return "share of wrong choices"
    return "mean distance as a share of the allowed range" if spec.bounded else "mean distance in units of the action"


def _best_constant(spec: ActionSpec, truth: Actions) -> Actions:
    """The action [A] with the least error: the most frequent choice, or the median of each element."""
    if spec.discrete:
        return np.asarray(np.eye(spec.size)[truth.mean(axis=0).argmax()], np.float32)
    return np.asarray(np.median(truth.astype(np.float64), axis=0), np.float32)


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
