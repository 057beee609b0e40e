"""The frozen-features objective: the state predicts the patch features of a pretrained encoder, not the pixels."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from dreamset.core.capabilities import Representation
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.decoders import MakesVectorDecoder, ObservationDecoder, PatchesDecoder
from dreamset.objectives.base import Objective


class FrozenFeatures(Objective):
    """J_F = ln p(f_t | s_t) with N(mean, I) over the standardised patch features f_t, summed over patches and channels.

    Up to a constant, this is half the squared error. The features are those of DINO-WM (Zhou et al. 2025), whose
    predictor they serve as a state; here they are the target of any state. The world model need not read them: with
    ``world_model.encoder.names=[image]`` it observes only the image, and acting needs no features.

    Args:
        model: the world model whose features predict the patch features.
        weight: factor on the log-likelihood.
        hidden, layers: sizes of the decoder.
        names: columns of patch features; by default all.
        decoder: constructs p(f | s).

    Raises:
        UserError: if the dataset has no patch features, or a name is not one of them.
    """

    uses_unacted = True

    def __init__(
        self,
        model: Representation[Any],
        *,
        weight: float,
        hidden: int,
        layers: int,
        names: Sequence[str] | None = None,
        decoder: MakesVectorDecoder = PatchesDecoder,
    ) -> None:
        super().__init__()
        spec = model.spec
        available = sorted(name for name, array in spec.observations.items() if array.is_patches)
        if not available:
            raise UserError(
                f"the objective FrozenFeatures needs patch features, but the dataset has only the observations "
                f"{sorted(spec.observations)}; add the transform PatchFeatures to dataset.transforms and ingest again"
            )
        unknown = sorted(set(names or ()) - set(available))
        if unknown:
            raise UserError(f"objective.names lists {unknown}, which are no patch features; choose from {available}")
        self.weight = weight
        self.names = available if names is None else sorted(names)
        self.decoders = nn.ModuleList(
            decoder(model.feature_size, spec.observations[name], spec.statistics[name], hidden=hidden, layers=layers)
            for name in self.names
        )

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:  # noqa: ARG002
        """-ln p(f_t | s_t) for each column of patch features."""
        losses = {}
        for name, decode in zip(self.names, self.decoders, strict=True):
            assert isinstance(decode, ObservationDecoder)
            log_prob = decode(rollout.features).log_prob(decode.target(batch.observations[name]))
            losses[f"frozen_features.{name}"] = Loss(-log_prob, self.weight)
        return losses
