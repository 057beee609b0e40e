"""Measures one row: the estimators against the exact truth, and what the policy does that cannot be undone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.acting.playing import environment_of, trained
from benchmarks.offline_suite.episodes import Returns
from benchmarks.reversibility.auc import auc
from dreamset.core.states import map_state
from dreamset.datasets import Store
from dreamset.pipeline.artifacts.rewards import reward_of
from dreamset.pipeline.registry.registration import code_version
from dreamset.pipeline.stages import evaluate
from dreamset.pipeline.stages.settings import Evaluate

EPISODES = 40  # recorded episodes whose states are scored, as many as there are if these are fewer
REACHABLE = 2000  # states that are drawn among all
Numbers = NDArray[np.int64]


def run(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Figures and (return, length) of every episode."""
    settings = Evaluate.of(**work["evaluate"])
    make = environment_of(settings)
    evaluator = evaluate.load_evaluator(settings, make, torch.device("cpu"))
    episodes = evaluate.play(evaluator)
    figures: dict[str, Any] = {
        "harm": float(np.mean([episode.infos[work["harm"]][-1] for episode in episodes])),
        "success": float(np.mean([episode.infos["success"][-1] for episode in episodes])),
    }
    networks = reward_of(Path(settings.policy), torch.device("cpu")).networks()
    if networks:
        judge = Judge(evaluator.model, networks, make().unwrapped.rules)  # type: ignore[attr-defined]
        figures |= judge.figures(Store.open(work["store"]), seed=int(work["row"]["seed"]))
    returns = [(episode.total_reward, len(episode.rewards)) for episode in episodes]
    costs, codes = trained(settings)
    return figures | costs | {"code": ", ".join(dict.fromkeys([*codes, code_version()]))}, returns


@dataclass(frozen=True)
class Judge:
    """Compares the estimators with the truth, for every action in a state.

    Args:
        model: the world model.
        networks: ``precedence`` (psi) and ``action_irreversibility`` (phi).
        rules: of the world.
    """

    model: Any
    networks: Mapping[str, nn.Module]
    rules: Any

    def figures(self, store: Store, *, seed: int) -> dict[str, float]:
        """AUC of psi and phi over visited and over reachable states, and the share of irreversible actions."""
        generator = torch.Generator().manual_seed(seed)
        visited = [self._visited(store.read(number), generator) for number in self._episodes(store)]
        scored = {"visited": _joined(visited), "reachable": self._reachable(np.random.default_rng(seed), generator)}
        return {name: value for where, scores in scored.items() for name, value in scores.figures(where).items()}

    @staticmethod
    def _episodes(store: Store) -> list[int]:
        """Held-out episodes first, then episodes of training."""
        return [int(number) for split in ("validation", "train") for number in store.split(split)][:EPISODES]

    @torch.no_grad()
    def _visited(self, episode: Mapping[str, NDArray[Any]], generator: torch.Generator) -> "Scored":
        """All actions in the states of an episode, each with the memory of the rows before it."""
        states, memory = self.rules.numbers(episode["privileged.state"]), self.model.initial(1)
        parts = []
        for row, state in enumerate(states[:-1]):  # nobody acts in the last row
            first, action = torch.tensor([row == 0]), torch.tensor(episode["action"][[row]])
            memory = self._filter(memory, action, states[[row]], first, generator)
            parts.append(self._scored(np.array([state]), memory, generator))
        return _joined(parts)

    @torch.no_grad()
    def _reachable(self, draws: np.random.Generator, generator: torch.Generator) -> "Scored":
        """All actions in drawn states, each seen as the first row of an episode."""
        states = self.rules.graph.states
        states = states[~self.rules.ended(states)]
        states = draws.choice(states, min(REACHABLE, len(states)), replace=False)
        first = torch.ones(len(states), dtype=torch.bool)
        action = torch.zeros(len(states), self.model.spec.action.size)
        memory = self._filter(self.model.initial(len(states)), action, states, first, generator)
        return self._scored(states, memory, generator)

    def _scored(self, states: Numbers, memory: Any, generator: torch.Generator) -> "Scored":
        """psi, phi and the truth for every action in N states."""
        count, choices = len(states), self.model.spec.action.size
        pairs = np.repeat(states, choices), np.tile(np.arange(choices), count)
        graph = self.rules.graph
        arrivals = graph.states[graph.arrivals[graph.index(pairs[0]), pairs[1]]]
        action = torch.eye(choices).repeat(count, 1)
        before = map_state(lambda tensor: tensor.repeat_interleave(choices, dim=0), memory)
        going = torch.zeros(len(action), dtype=torch.bool)
        after = self._filter(before, action, arrivals, going, generator)
        features = [self.model.features(state) for state in (before, after)]
        psi = self.networks["precedence"].irreversibility(*features)  # type: ignore[operator]
        phi = self.networks["action_irreversibility"].irreversibility(features[0], action)  # type: ignore[operator]
        return Scored(psi.numpy(), phi.numpy(), ~graph.reversible(*pairs))

    def _filter(self, memory: Any, action: Tensor, states: Numbers, first: Tensor, generator: torch.Generator) -> Any:
        observed = {"state": torch.as_tensor(self.rules.vectors(states))}
        return self.model.filter(memory, action, observed, first, self.model.noise((len(states),), generator))


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of N actions, and whether each is irreversible."""

    psi: NDArray[np.floating]
    phi: NDArray[np.floating]
    irreversible: NDArray[np.bool_]

    def figures(self, where: str) -> dict[str, float]:
        """The figures of one set of states."""
        return {
            f"psi_auc_{where}": auc(self.psi, self.irreversible),
            f"phi_auc_{where}": auc(self.phi, self.irreversible),
            f"psi_reversible_{where}": float(self.psi[~self.irreversible].mean()),
            f"irreversible_share_{where}": float(self.irreversible.mean()),
        }


def _joined(parts: list[Scored]) -> Scored:
    columns = ((part.psi, part.phi, part.irreversible) for part in parts)
    return Scored(*(np.concatenate(column) for column in zip(*columns, strict=True)))
