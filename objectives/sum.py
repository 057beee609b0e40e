"""The sum of several objectives."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from dreamset.core.capabilities import Representation, uses_unacted
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.objectives.base import Objective


class Sum(Objective):
    """The losses of all terms, each with its own weight; J = sum_i w_i J_i.

    Args:
        model: the world model.
        terms: a constructor for each term by name; it gets the model.
    """

    def __init__(
        self, model: Representation[Any], *, terms: Mapping[str, Callable[[Representation[Any]], Objective]]
    ) -> None:
        super().__init__()
        if not terms:
            raise UserError("objective.terms is empty; name at least one objective in it")
        self.terms = nn.ModuleDict({name: make(model) for name, make in terms.items()})
        self.uses_unacted = uses_unacted(*self.terms.values())

    def view(self, batch: SequenceBatch) -> SequenceBatch:
        """Applies every term's view in order, each to the result of the previous one."""
        for term in self._objectives():
            batch = term.view(batch)
        return batch

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:
        """The losses of all terms.

        Raises:
            ValueError: if two terms have a loss of the same name.
        """
        losses: dict[str, Loss] = {}
        for term in self._objectives():
            term_losses = term(rollout, batch, model)
            duplicates = sorted(losses.keys() & term_losses.keys())
            if duplicates:
                raise ValueError(f"two objectives have losses of the same name: {duplicates}; rename those of one")
            losses |= term_losses
        return losses

    def after_update(self, model: Representation[Any]) -> None:
        """Calls ``after_update`` of every term."""
        for term in self._objectives():
            term.after_update(model)

    def _objectives(self) -> list[Objective]:
        terms = list(self.terms.values())
        assert all(isinstance(term, Objective) for term in terms)
        return terms  # type: ignore[return-value]  # a ModuleDict's items have the type nn.Module
