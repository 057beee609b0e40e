"""The reconstruction objective: decoders predict the observations from the state."""

from collections.abc import Callable, Sequence
from typing import Any

from dreamset.core.capabilities import Representation
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.decoders import Decoder
from dreamset.objectives.base import Objective


class Reconstruction(Objective):
    """J_O = sum over observation names of ln p(o_t | s_t) (Dreamer v1, equation 10).

    Args:
        model: the world model whose features are decoded.
        weight: factor on the log-likelihood, 1 as published.
        depth, hidden, layers: sizes of the decoders.
        names: observations to reconstruct; by default all.
        decoder: constructs p(o | s), which differs by generation; by default N(mean, I) of Dreamer v1.
    """

    uses_unacted = True

    def __init__(
        self,
        model: Representation[Any],
        *,
        weight: float,
        depth: int,
        hidden: int,
        layers: int,
        names: Sequence[str] | None = None,
        decoder: Callable[..., Decoder] = Decoder,
    ) -> None:
        super().__init__()
        unknown = set(names or ()) - set(model.spec.observations)
        if unknown:
            raise UserError(
                f"objective.names lists unknown observations {sorted(unknown)}; "
                f"choose from the dataset's observations {sorted(model.spec.observations)}"
            )
        self.weight = weight
        self.decoder = decoder(model.feature_size, model.spec, depth=depth, hidden=hidden, layers=layers, names=names)

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:  # noqa: ARG002
        """-ln p(o_t | s_t) for each observation name."""
        log_prob = self.decoder.log_prob(rollout.features, batch.observations)
        return {f"reconstruction.{name}": Loss(-value, self.weight) for name, value in log_prob.items()}
