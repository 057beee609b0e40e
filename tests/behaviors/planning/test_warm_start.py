"""Where the search of the next row begins."""

import pytest
import torch

from dreamset.behaviors.planning.optimizers import CEM
from dreamset.behaviors.planning.planner import Planning
from dreamset.behaviors.rewards import PredictedReward
from tests.builders import seeded, tiny_batch, tiny_model


@pytest.mark.parametrize("warm_start", [True, False])
def test_a_search_begins_at_the_rest_of_the_last_plan_only_with_a_warm_start(warm_start: bool) -> None:
    model, batch = tiny_model(), tiny_batch()
    optimizer = CEM(horizon=3, candidates=8, elites=2, iterations=2)
    controller = Planning(optimizer, PredictedReward(), warm_start=warm_start).controller(model, None)
    observations = {name: value[:, 0] for name, value in batch.observations.items()}
    first, memory = torch.ones(3, dtype=torch.bool), controller.initial(3)
    guesses = []
    search = controller.search
    controller.search = lambda state, guess, draw: guesses.append(guess) or search(state, guess, draw)
    for is_first in (first, ~first, ~first):
        _, memory = controller.act(observations, is_first, memory, seeded())
    starts_at_zero = [not guess.any() for guess in guesses]
    assert starts_at_zero == ([True, False, False] if warm_start else [True, True, True])
    if warm_start:
        assert torch.equal(memory.plan[:, -1], memory.plan[:, -2])  # shifted: the last action is repeated
