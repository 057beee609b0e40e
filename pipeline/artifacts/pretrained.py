"""Training that starts from an existing world model: ``world_model=from_registry``, with any ``adaptation``.

When the configuration is resolved, the reference is pinned to one model by its digest, and is replaced by that model's
architecture. A resolved file therefore always means the same model. The trained model is saved like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from dreamset.core.errors import UserError
from dreamset.core.spec import DataSpec
from dreamset.pipeline.artifacts.compatibility import Difference, fitted_spec
from dreamset.pipeline.artifacts.saved_models import (
    WEIGHTS,
    WORLD_MODEL,
    WORLD_MODEL_PARTS,
    build,
    check_targets,
    load_weights,
    read_description,
)
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.registry.retrieval import MADE_BY, Pinned, Reference, local_folder, pin
from dreamset.pipeline.training.parameter_groups import Factors, factor_of


def pin_world_model(node: Mapping[str, Any], dataset: str, adaptation: Factors) -> dict[str, Any]:
    """Replaces ``world_model=from_registry`` by the model's own architecture and the place of its weights.

    Args:
        node: the settings of ``configs/world_model/from_registry.yaml``.
        dataset: name of the dataset, which gives the model's name if ``node`` names none.
        adaptation: factors on the learning rates of its parts, see ``configs/adaptation/``.

    Raises:
        UserError: if there is no such world model, or ``node`` has keys that nothing reads.
    """
    settings = dict(node)
    strict = settings.pop("strict")
    unknown = sorted(settings.keys() - {"name", "alias", "version", "run", "folder"})
    if unknown:
        raise UserError(f"world_model=from_registry keeps the saved model's architecture; remove the keys {unknown}")
    if settings["run"] is not None and settings["folder"] is not None:
        raise UserError("world_model.run and world_model.folder name two models; set only one of them")
    settings["name"] = settings["name"] or catalog.family(dataset, WORLD_MODEL)
    pinned = pin(Reference(**settings), kind=WORLD_MODEL)
    saved = read_description(local_folder(pinned), made_by=MADE_BY, kind=WORLD_MODEL)
    check_targets(saved.architecture, allowed=WORLD_MODEL_PARTS)
    start = {**asdict(pinned), "strict": strict, "adaptation": dict(adaptation)}
    return {"world_model": saved.architecture, "generation": saved.lineage["generation"], "start": start}


def continued(start: Mapping[str, Any], data: DataSpec) -> nn.Module:
    """The pinned world model, to be trained further on other data or on more of the same data.

    Raises:
        UserError: if its files are missing, if it does not fit the data (the message lists the keys), or if
            re-initialised layers are frozen.
    """
    pinned = _pinned(start)
    folder = local_folder(pinned)
    saved = read_description(folder, made_by=MADE_BY, kind=WORLD_MODEL)
    spec = fitted_spec(saved.spec, data, strict=start["strict"], where=pinned.label)
    model: nn.Module = build(saved.architecture, spec, allowed=WORLD_MODEL_PARTS)
    left_out = load_weights(folder / WEIGHTS, model, made_by=MADE_BY, strict=start["strict"])
    _require_trained(model, left_out, start["adaptation"])
    return model


def _require_trained(model: nn.Module, left_out: Sequence[Difference], adaptation: Factors) -> None:
    """Refuses to freeze a re-initialised parameter, which would keep its random values."""
    new = {difference.key for difference in left_out} & dict(model.named_parameters()).keys()
    frozen = sorted(name for name in new if factor_of(name, adaptation) == 0)
    if frozen:
        raise UserError(
            f"the adaptation freezes re-initialised layers, which would stay random: {', '.join(frozen)}; train them, "
            "e.g. with adaptation=new_encoder"
        )


def parent(start: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The entry for the parent in a model's lineage; None if the training starts from scratch."""
    if start is None:
        return None
    pinned = _pinned(start)
    return {"digest": pinned.digest, "name": pinned.name, "version": pinned.version, "run": pinned.run}


def _pinned(start: Mapping[str, Any]) -> Pinned:
    return Pinned(**{name: value for name, value in start.items() if name not in ("strict", "adaptation")})
