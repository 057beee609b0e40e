"""The recorded losses hold: a rebuild that changes no formula changes no number."""

import json
from functools import cache

import pytest

from tests.golden.updates import ASSET, cases, losses

RELATIVE = 2e-3  # processors sum in other orders, and twenty updates let that grow; on one machine numbers are equal
ABSOLUTE = 1e-4


@cache
def recorded() -> dict[str, dict[str, list[float]]]:
    loaded: dict[str, dict[str, list[float]]] = json.loads(ASSET.read_text())
    return loaded


@pytest.mark.parametrize(("generation", "objective"), list(cases()))
def test_losses_of_twenty_updates_equal_the_recorded_ones(generation: str, objective: str) -> None:
    expected, found = recorded()[f"{generation} {objective}"], losses(generation, objective)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=RELATIVE, abs=ABSOLUTE), name


def test_recorded_losses_move_with_the_updates() -> None:
    for case, by_name in recorded().items():
        for name in ("world_model/loss/total", "behavior/loss/actor"):
            assert len(set(by_name[name])) > 10, (case, name)
