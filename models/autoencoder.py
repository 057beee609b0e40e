"""A variational autoencoder of each row's observations: a world model without memory and without dynamics."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.models.decoders import Decoder
from dreamset.models.encoders import Encoder

COLLAPSED = 0.1  # nats of the whole latent
LOG_STD = (-10.0, 5.0)  # limits of ln std, far from what is learned


@dataclass(frozen=True)
class Code:
    """The latent of one row, and nothing else: the model has no memory."""

    mean: Tensor  # [..., Z]


@dataclass(frozen=True)
class Posterior:
    """q(z | o) of a batch, with one sample of it."""

    mean: Tensor  # [B, T, Z]
    log_std: Tensor  # [B, T, Z]
    sample: Tensor  # [B, T, Z]

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) in nats, summed over the latent, [B, T]."""
        terms = self.mean.square() + (2 * self.log_std).exp() - 1 - 2 * self.log_std
        return 0.5 * terms.sum(-1)


class Autoencoder(nn.Module):
    """q(z | o) and o = d(z), whose features are the mean of q.

    It minimises, for each row, ::

        sum over observations of mean (d(z) - o)^2 + kl_weight KL(q(z | o) || N(0, I)),    z ~ q(z | o)

    with pixels in [-0.5, 0.5] and vectors standardised, averaged over their elements. This is the beta-VAE of latent
    diffusion planning (Xie et al. 2025), whose weight is 1e-5, so that the latent is little more than smoothed. It
    needs no actions and no rewards, so every image serves it.

    Args:
        spec: the data's specification.
        encoder: constructs the encoder.
        decoder: constructs the decoder from Z.
        size: Z.
        kl_weight: of the KL in nats.
    """

    uses_unacted = True  # it learns from episodes without actions, too
    headline = "reconstruction_error"
    noise_distribution = "none"
    embedding_size = 0  # an objective that compares states with embeddings would compare a code with itself

    def __init__(
        self,
        spec: DataSpec,
        *,
        encoder: Callable[[DataSpec], Encoder],
        decoder: Callable[[int, DataSpec], Decoder],
        size: int,
        kl_weight: float = 1e-5,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder(spec)
        self.posterior = nn.Linear(self.encoder.embedding_size, 2 * size)
        self.decoder: Decoder | None = decoder(size, spec)
        self.feature_size = size
        self.kl_weight = kl_weight

    def initial(self, count: int) -> Code:
        """Zeros; ``filter`` ignores it."""
        return Code(next(self.parameters()).new_zeros(count, self.feature_size))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """[*shape, 0]: states are deterministic."""
        return torch.zeros((*shape, 0), device=generator.device)

    def features(self, state: Code) -> Tensor:
        """The mean of q(z | o), [..., Z]."""
        return state.mean

    def observe(
        self,
        batch: SequenceBatch,
        generator: torch.Generator,
        start: Code | None = None,  # noqa: ARG002 - the model has no memory
    ) -> Rollout[Code]:
        """The code of every row by itself; the details are the ``Posterior``."""
        mean, log_std = self._encoded(batch.observations)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return Rollout(Code(mean), mean, mean[..., :0], Posterior(mean, log_std, mean + log_std.exp() * noise))

    def filter(
        self,
        state: Code,  # noqa: ARG002 - the model has no memory
        action: Tensor,  # noqa: ARG002
        observations: Mapping[str, Tensor],
        is_first: Tensor,  # noqa: ARG002
        noise: Tensor,  # noqa: ARG002
    ) -> Code:
        """The code of the row alone."""
        return Code(self._encoded(observations)[0])

    def _encoded(self, observations: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        mean, log_std = self.posterior(self.encoder(observations)).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD)

    def errors(self, latent: Tensor, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean squared error of each decoded observation by name, [B, T] each."""
        assert self.decoder is not None, "a pruned autoencoder only encodes"
        decoded, targets = self.decoder(latent), self.decoder.targets(observations)
        rows = latent.ndim - 1
        return {name: (decoded[name].mean - target).square().flatten(rows).mean(-1) for name, target in targets.items()}

    def parts(self) -> Mapping[str, nn.Module | None]:
        """Encoder, the posterior's layer and the decoder; the other parts of a world model do not exist."""
        names = ("dynamics", "reward_head", "continue_head", "ensemble")
        own = {"encoder": self.encoder, "posterior": self.posterior, "decoder": self.decoder}
        return {**dict.fromkeys(names), **own}

    def watchers(self) -> Sequence[str]:
        """None."""
        return ()

    def losses(self, rollout: Rollout[Code], batch: SequenceBatch) -> dict[str, Loss]:
        """The errors of decoded samples, and the KL."""
        posterior = details(rollout)
        errors = self.errors(posterior.sample, batch.observations)
        reconstruction = {f"reconstruction.{name}": Loss(value) for name, value in errors.items()}
        return {**reconstruction, "kl": Loss(posterior.kl(), self.kl_weight)}

    def figures(self, rollout: Rollout[Code], batch: SequenceBatch) -> dict[str, Tensor]:
        """``reconstruction_error``: the errors of decoded means, summed over the observations. ``kl`` in nats."""
        errors = self.errors(rollout.features, batch.observations)
        return {
            "reconstruction_error": torch.stack([value.mean() for value in errors.values()]).sum(),
            "kl": details(rollout).kl().mean(),
        }

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line on posterior collapse."""
        if figures["kl"] >= COLLAPSED:
            return []
        return [
            f"posterior collapse: the latent has {figures['kl']:.2f} nats about an observation (validation/kl), so it "
            "tells nothing; lower world_model.kl_weight"
        ]

    def for_acting(self) -> "Autoencoder":
        """A copy without the decoder, which ``filter`` and ``features`` do not need."""
        pruned = copy.deepcopy(self)
        pruned.decoder = None
        return pruned


def details(rollout: Rollout[Code]) -> Posterior:
    """The details of a rollout of this model."""
    assert isinstance(rollout.details, Posterior)
    return rollout.details
