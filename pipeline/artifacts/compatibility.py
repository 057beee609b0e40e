"""Compares a saved model with other data or another network, key by key, and loads the weights that fit."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, DataSpec
from dreamset.pipeline.report.tables import columns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """One key whose values differ between two sides; None: that side does not have the key."""

    key: str
    saved: str | None
    wanted: str | None

    @property
    def verdict(self) -> str:
        """What is wrong, from the side of ``wanted``."""
        if self.saved is None:
            return "missing"
        return "unexpected" if self.wanted is None else "different"


def differences(saved: Mapping[str, str], wanted: Mapping[str, str]) -> list[Difference]:
    """Every key whose values differ, sorted by name."""
    keys = sorted(saved.keys() | wanted.keys())
    pairs = (Difference(key, saved.get(key), wanted.get(key)) for key in keys)
    return [pair for pair in pairs if pair.saved != pair.wanted]


def listing(unequal: Sequence[Difference], *, saved: str, wanted: str) -> str:
    """A table with one line per difference; ``saved`` and ``wanted`` are the headings of the two sides."""
    rows = [(d.verdict, d.key, d.saved or "-", d.wanted or "-") for d in unequal]
    return columns(("", "key", saved, wanted), rows, indent="  ")


def load_fitting(module: nn.Module, weights: Mapping[str, Tensor], *, strict: bool, where: object) -> list[Difference]:
    """Loads ``weights`` into ``module``. Without ``strict``, parameters that do not fit keep their initial values.

    Returns:
        every key that is missing, unexpected or of another shape; these keys are also logged.

    Raises:
        UserError: if ``strict`` and a key does not fit; the message lists these keys, and nothing is loaded.
    """
    wanted = module.state_dict()
    unequal = differences(_shapes(weights), _shapes(wanted))
    if unequal:
        text = listing(unequal, saved="in the file", wanted="in the network")
        if strict:
            raise UserError(
                f"{where} does not fit the network: {len(unequal)} of {len(wanted)} keys differ; choose a model with "
                f"this architecture:\n{text}"
            )
        log.warning("%s: loaded the keys that fit; skipped these %d keys:\n%s", where, len(unequal), text)
    left_out = {difference.key for difference in unequal}
    module.load_state_dict({key: value for key, value in weights.items() if key not in left_out}, strict=False)
    return unequal


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: str(list(value.shape)) for key, value in weights.items()}


def fitted_spec(saved: DataSpec, data: DataSpec, *, strict: bool, where: object) -> DataSpec:
    """The specification with which a saved model is trained further on other data.

    Actions keep the bounds of the saved model. Observations that fit keep its statistics, with which it was trained.
    Without ``strict`` the observations are those of the data, and the differences are logged.

    Raises:
        UserError: if actions have another size or kind, or, with ``strict``, if anything differs.
    """
    _require_same_action(saved.action, data.action, where)
    unequal = differences(described(saved), described(data))
    if unequal:
        text = listing(unequal, saved="the model", wanted="the dataset")
        if strict:
            raise UserError(
                f"{where} was trained on other data; choose a dataset with the same columns, or load the parts that "
                f"fit with world_model.strict=false:\n{text}"
            )
        log.warning(
            "%s was trained on other data; the layers that read these keys are re-initialised:\n%s", where, text
        )
    same = {name for name, spec in data.observations.items() if saved.observations.get(name) == spec}
    statistics = {name: value for name, value in saved.statistics.items() if name in same}
    return DataSpec(data.observations, saved.action, data.privileged, {**data.statistics, **statistics})


def described(spec: DataSpec) -> dict[str, str]:
    """The model's inputs and outputs as texts by name. Two specifications with equal texts fit the same model."""
    return {
        **{f"observation {name}": str(array) for name, array in spec.observations.items()},
        "action": _action(spec.action),
        "action bounds": _bounds(spec.action),
    }


def _require_same_action(saved: ActionSpec, data: ActionSpec, where: object) -> None:
    if (saved.size, saved.discrete) != (data.size, data.discrete):
        raise UserError(
            f"{where} has {_action(saved)} actions, the dataset has {_action(data)}; for other actions the learned "
            "dynamics would be invalid; train a new model"
        )


def _action(spec: ActionSpec) -> str:
    return f"{spec.size} discrete" if spec.discrete else f"{spec.size} continuous"


def _bounds(spec: ActionSpec) -> str:
    pairs = list(zip(spec.low, spec.high, strict=True))
    distinct = pairs[:1] if len(set(pairs)) == 1 else pairs
    return ", ".join(f"{low:g} to {high:g}" for low, high in distinct)
