"""The decoder that shows what a world model's features encode: that of its objective, or a probe."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamset.core.capabilities import Representation
from dreamset.core.errors import UserError
from dreamset.core.spec import DataSpec
from dreamset.datasets import Store
from dreamset.models.decoders import Decoder, ObservationDecoder
from dreamset.objectives.base import Objective
from dreamset.pipeline.artifacts.saved_models import OBJECTIVE, load_weights, model_digest, save_weights
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.config.settings import Part, Validation
from dreamset.pipeline.evaluation.open_loop import new_probe_decoder, train_probe_decoder
from dreamset.pipeline.evaluation.validation import Validator
from dreamset.pipeline.files import digest

COMMAND = "dreamset dream"
OWN, PROBE = "decoder: the model's own", "decoder: probe on the features"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decoding:
    """A decoder whose predictions are images in [0, 1] and vectors in the units of the dataset."""

    decoder: Decoder
    spec: DataSpec
    name: str  # which decoder it is, in words

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Mapping[str, Tensor]:
        """Features [..., F] to predicted observations [..., *shape]."""
        predicted = self.decoder(features)
        return {name: self._in_units(name, predicted[name].mean) for name in self.spec.observations}

    def _in_units(self, name: str, mean: Tensor) -> Tensor:
        if self.spec.observations[name].is_image:  # planes [..., C, H, W] in [-0.5, 0.5]
            return (mean.movedim(-3, -1) + 0.5).clamp(0, 1)
        decode = self.decoder.decoders[name.replace(".", "/")]
        assert isinstance(decode, ObservationDecoder)
        zero = decode.target(torch.zeros_like(mean))  # targets are linear, so two of them give the inverse
        return (mean - zero) / (decode.target(torch.ones_like(mean)) - zero)


def own_decoder(model: Representation[Any], folder: Path, objective: Part, *, device: torch.device) -> Decoder | None:
    """The decoder that the objective trained with the model in ``folder``; None if there is none for all observations.

    Args:
        model: the world model.
        folder: where it is saved; its objective lies beside it.
        objective: settings of the objective.
        device: of the model.
    """
    weights = folder.parent / OBJECTIVE
    if not weights.exists():
        return None
    try:
        with torch.random.fork_rng(devices=[]):
            trained: Objective = build_part(objective, model)
        load_weights(weights, trained, made_by="dreamset train-world-model")
    except UserError as error:
        log.warning("the objective's own decoder is not used: %s", error)
        return None
    complete = (part for part in trained.modules() if isinstance(part, Decoder) and _decodes(part, model.spec))
    decoder = next(complete, None)
    return None if decoder is None else decoder.to(device).eval().requires_grad_(False)


def _decodes(decoder: Decoder, spec: DataSpec) -> bool:
    """Whether it has a decoder of every observation."""
    return set(spec.observations) <= {key.replace("/", ".") for key in decoder.decoders}


def probe_decoder(
    model: Representation[Any],
    folder: Path,
    store: Store,
    validation: Validation,
    *,
    seed: int,
    device: torch.device,
    cache: Path,
) -> Decoder:
    """A decoder that is trained on the frozen features, as for the open-loop video.

    It is kept in the folder ``cache`` and trained again only for another model, dataset or other settings.
    """
    settings = validation.probe_decoder
    identity = json.dumps([validation.probe_episodes, settings.model_dump(), seed])
    path = cache / f"{digest(model_digest(folder), store.digest, identity)}.safetensors"
    if path.exists():
        kept = new_probe_decoder(model, depth=settings.depth, hidden=settings.hidden, layers=settings.layers)
        try:
            load_weights(path, kept, made_by=COMMAND)
            return kept.to(device).eval().requires_grad_(False)
        except UserError as error:
            log.warning("the decoder is trained again: %s", error)
    fitting = Validator(store, validation, device=device).fitting
    decoder = train_probe_decoder(model, fitting, seed=seed, **settings.model_dump())
    save_weights(path, decoder)
    return decoder
