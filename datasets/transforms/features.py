"""Adds the features of a frozen encoder as a column, so that they are computed once for all models."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.transforms.base import EpisodeTransform
from dreamset.vision.base import PatchEncoder, label, require_colour


@dataclass(frozen=True)
class PatchFeatures(EpisodeTransform):
    """Adds the observation ``name``: the patch features of every image, float16 [N + 1, P, C].

    The provenance and the column itself name the encoder and its digest. A model that reads them refuses features of
    another encoder. The image stays; ``SelectColumns`` drops it. ``dreamset.environments.features`` adds the same
    features while acting, from the same encoder.

    Args:
        encoder: such as ``dreamset.vision.EfficientNetLite0``.
        image: the observation that the encoder reads.
        name: of the new observation.
    """

    encoder: PatchEncoder
    image: str = "image"
    name: str = "patches"

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The columns with that of the features."""
        observations = description.observations
        images = sorted(name for name, spec in observations.items() if spec.is_image)
        if self.image not in images:
            raise UserError(f"PatchFeatures: {self.image!r} is no image among the observations; available: {images}")
        if self.name in observations:
            raise UserError(f"PatchFeatures: the observation {self.name!r} exists already; choose another name")
        require_colour(self.encoder, observations[self.image].shape)
        added = ArraySpec(self.encoder.shape, "float16", label(self.encoder))
        return replace(description, observations={**observations, self.name: added})

    def facts(self) -> Mapping[str, Any]:
        """The encoder without the place of its weights, so that equal features give equal stores."""
        settings = {"name": self.encoder.name, "digest": self.encoder.digest, **self.encoder.settings()}
        return {"encoder": settings}

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with the features of its images."""
        features = self.encoder.features(raw.observations[self.image])  # type: ignore[arg-type] # checked before
        return replace(raw, observations={**raw.observations, self.name: features})
