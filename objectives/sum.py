"""Several objectives at once."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from dreamset.core.capabilities import Representation
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.objectives.base import Objective


class Sum(Objective):
    """The losses of all terms, each with its own weight; J = sum_i w_i J_i.

    Args:
        model: the world model.
        terms: what makes each term from the model, by a name of its own.
    """

    def __init__(
        self, model: Representation[Any], *, terms: Mapping[str, Callable[[Representation[Any]], Objective]]
    ) -> None:
        super().__init__()
        if not terms:
            raise UserError("objective.terms is empty, so there is nothing to add up; choose at least one objective")
        self.terms = nn.ModuleDict({name: make(model) for name, make in terms.items()})

    def view(self, batch: SequenceBatch) -> SequenceBatch:
        """Every term changes what the one before it made of the batch."""
        for term in self._objectives():
            batch = term.view(batch)
        return batch

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:
        """All losses.

        Raises:
            ValueError: if two terms have a loss of the same name.
        """
        losses: dict[str, Loss] = {}
        for term in self._objectives():
            added = term(rollout, batch, model)
            clash = sorted(losses.keys() & added.keys())
            if clash:
                raise ValueError(f"two objectives have losses of the same name: {clash}; rename those of one")
            losses |= added
        return losses

    def after_update(self, model: Representation[Any]) -> None:
        """Every term's own."""
        for term in self._objectives():
            term.after_update(model)

    def _objectives(self) -> list[Objective]:
        terms = list(self.terms.values())
        assert all(isinstance(term, Objective) for term in terms)
        return terms  # type: ignore[return-value]  # a ModuleDict only knows that they are modules
