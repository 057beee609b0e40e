"""Whether a saved model fits other data or another network, key by key, and loading what does."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.pipeline.report.tables import columns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is on one side only or something else on the other; None: it is not there."""

    key: str
    saved: str | None
    wanted: str | None

    @property
    def verdict(self) -> str:
        """What is wrong, seen from the one who wants the key."""
        if self.saved is None:
            return "missing"
        return "unexpected" if self.wanted is None else "different"


def differences(saved: Mapping[str, str], wanted: Mapping[str, str]) -> list[Difference]:
    """Every key whose values are not equal, by name."""
    keys = sorted(saved.keys() | wanted.keys())
    found = (Difference(key, saved.get(key), wanted.get(key)) for key in keys)
    return [difference for difference in found if difference.saved != difference.wanted]


def listing(found: Sequence[Difference], *, saved: str, wanted: str) -> str:
    """One line per difference below a head that names both sides."""
    rows = [(d.verdict, d.key, d.saved or "-", d.wanted or "-") for d in found]
    return columns(("", "key", saved, wanted), rows, indent="  ")


def load_fitting(module: nn.Module, weights: Mapping[str, Tensor], *, strict: bool, where: object) -> list[Difference]:
    """Fills ``module``; without ``strict`` what does not fit stays as it was initialised and is logged.

    Returns:
        every key that is missing, unexpected or of another shape.

    Raises:
        UserError: listing all of them, if ``strict``; nothing is loaded then.
    """
    wanted = module.state_dict()
    found = differences(_shapes(weights), _shapes(wanted))
    if found:
        text = listing(found, saved="in the file", wanted="in the network")
        if strict:
            raise UserError(f"{where} does not fit the network, {len(found)} of {len(wanted)} keys differ:\n{text}")
        log.warning("%s: loaded what fits, left out these %d keys:\n%s", where, len(found), text)
    left_out = {difference.key for difference in found}
    module.load_state_dict({key: value for key, value in weights.items() if key not in left_out}, strict=False)
    return found


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: str(list(value.shape)) for key, value in weights.items()}


def fitted_spec(saved: DataSpec, data: DataSpec, *, strict: bool, where: object) -> DataSpec:
    """What a saved model is to read when it goes on with other data.

    Actions keep the bounds, and observations that fit keep the statistics, by which the model learned to read them.
    Without ``strict`` the observations are the data's, and what differs is logged.

    Raises:
        UserError: if actions are of another size or kind, or, with ``strict``, listing all that differs.
    """
    _require_same_action(saved.action, data.action, where)
    found = differences(described(saved), described(data))
    if found:
        text = listing(found, saved="the model", wanted="the dataset")
        if strict:
            raise UserError(
                f"{where} was made for other data; choose data like them, or load what fits with "
                f"world_model.strict=false:\n{text}"
            )
        log.warning("%s was made for other data; the parts that read these keys are new:\n%s", where, text)
    same = {name for name, spec in data.observations.items() if saved.observations.get(name) == spec}
    kept = {name: statistics for name, statistics in saved.statistics.items() if name in same}
    return DataSpec(data.observations, saved.action, data.privileged, {**data.statistics, **kept})


def described(spec: DataSpec) -> dict[str, str]:
    """What a model reads and writes, as text by name: equal if a model of the one fits the other."""
    return {
        **{f"observation {name}": _array(array) for name, array in spec.observations.items()},
        "action": _action(spec.action),
        "action bounds": _bounds(spec.action),
    }


def _require_same_action(saved: ActionSpec, data: ActionSpec, where: object) -> None:
    if (saved.size, saved.discrete) != (data.size, data.discrete):
        raise UserError(
            f"{where} acts by {_action(saved)}, the dataset by {_action(data)}; what the model knows is what its own "
            "actions do, so nothing of its dynamics would hold; train a new model"
        )


def _array(spec: ArraySpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"


def _action(spec: ActionSpec) -> str:
    return f"a choice among {spec.size}" if spec.discrete else f"{spec.size} continuous"


def _bounds(spec: ActionSpec) -> str:
    pairs = list(zip(spec.low, spec.high, strict=True))
    shown = pairs[:1] if len(set(pairs)) == 1 else pairs
    return ", ".join(f"{low:g} to {high:g}" for low, high in shown)
