"""The sum of objectives: the losses, views and updates of its terms."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.objectives.base import Objective
from dreamset.objectives.sum import Sum
from dreamset.pipeline.config.instantiate import build_part
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model


class Scaled(Objective):
    """Scales rewards in its view and returns the rewards of the batch as its loss."""

    def __init__(self, model: Any, *, name: str, factor: float) -> None:  # noqa: ARG002
        super().__init__()
        self.name, self.factor, self.updates = name, factor, 0

    def view(self, batch: SequenceBatch) -> SequenceBatch:
        return replace(batch, reward=batch.reward * self.factor)

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Any) -> dict[str, Loss]:  # noqa: ARG002
        return {self.name: Loss(batch.reward, self.factor)}

    def after_update(self, model: Any) -> None:  # noqa: ARG002
        self.updates += 1


def scaled(name: str, factor: float) -> Any:
    return lambda model: Scaled(model, name=name, factor=factor)


def test_sum_returns_the_losses_of_all_terms_with_their_weights() -> None:
    model, batch = tiny_model(), tiny_batch()
    config = tiny_config("objective=reconstruction_and_contrastive")["objective"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        both = build_part(config, model)
    rollout = model.observe(batch, seeded())
    losses = both(rollout, batch, model)
    assert set(losses) == {"reconstruction.state", "reconstruction.image", "contrastive"}
    for name, term in both.terms.items():
        for key, alone in term(rollout, batch, model).items():
            assert torch.equal(losses[key].value, alone.value), (name, key)
            assert losses[key].weight == alone.weight


def test_sum_applies_the_views_of_all_terms_in_order() -> None:
    both = Sum(tiny_model(), terms={"a": scaled("a", 2.0), "b": scaled("b", 5.0)})
    batch = tiny_batch()
    torch.testing.assert_close(both.view(batch).reward, 10 * batch.reward)


def test_sum_calls_after_update_of_every_term() -> None:
    both = Sum(tiny_model(), terms={"a": scaled("a", 2.0), "b": scaled("b", 5.0)})
    both.after_update(tiny_model())
    assert [term.updates for term in both.terms.values()] == [1, 1]


def test_sum_refuses_two_losses_of_one_name() -> None:
    model, batch = tiny_model(), tiny_batch()
    both = Sum(model, terms={"a": scaled("same", 2.0), "b": scaled("same", 5.0)})
    with pytest.raises(ValueError, match=r"losses of the same name: \['same'\]"):
        both(model.observe(batch, seeded()), batch, model)


def test_sum_refuses_an_empty_list_of_terms() -> None:
    with pytest.raises(UserError, match=r"objective\.terms is empty"):
        Sum(tiny_model(), terms={})
