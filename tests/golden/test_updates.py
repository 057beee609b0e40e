"""Losses equal the recorded ones: a change that leaves all formulas as they are changes no number."""

import json
from functools import cache

import pytest

from tests.golden.updates import ASSET, cases, losses

RELATIVE = 2e-3  # processors sum in different orders, and errors grow over twenty updates; equal on one machine
ABSOLUTE = 1e-4


@cache
def recorded() -> dict[str, dict[str, list[float]]]:
    loaded: dict[str, dict[str, list[float]]] = json.loads(ASSET.read_text())
    return loaded


@pytest.mark.parametrize(("generation", "objective"), list(cases()))
def test_losses_of_twenty_updates_equal_recorded_losses(generation: str, objective: str) -> None:
    expected, computed = recorded()[f"{generation} {objective}"], losses(generation, objective)
    assert computed.keys() == expected.keys()
    for name, values in expected.items():
        assert computed[name] == pytest.approx(values, rel=RELATIVE, abs=ABSOLUTE), name


def test_recorded_losses_change_with_the_updates() -> None:
    for case, by_name in recorded().items():
        for name in ("world_model/loss/total", "behavior/loss/actor"):
            assert len(set(by_name[name])) > 10, (case, name)
