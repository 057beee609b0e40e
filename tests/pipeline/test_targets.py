"""Parts are checked against what they name when the configuration is composed, not when a stage has run for an hour."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.targets import mistakes

MODULE = """
from collections.abc import Sequence
from typing import Annotated
from pydantic import Field

class Part:
    def __init__(self, model, *, rate: Annotated[float, Field(gt=0, le=2)] = 1.0, names: Sequence[str] = (), lambda_=1):
        self.rate = rate

class Whole:
    def __init__(self, *, inner, size: int):
        self.inner = inner(1, given=2)

class Inner:
    def __init__(self, first, *, given, needed): ...

class Anything:
    def __init__(self, **options): ...

def function(first, second=2): ...
"""


WHOLE: dict[str, Any] = {"_target_": "mine.Whole", "size": 1}


@pytest.fixture(autouse=True)
def _own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "needs_more.py").write_text("import a_library_that_is_not_installed\nclass Part: ...\n")
    (tmp_path / "broken.py").write_text("class Part\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def said(node: Mapping[str, Any], key: str = "objective") -> list[str]:
    return [f"{mistake.key} {mistake.finding}" for mistake in mistakes(node, key)]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "mine.Nope"}, "objective._target_ is mine.Nope, but there is no Nope in mine"),
        ({"_target_": "mine.Prat"}, "did you mean Part?"),
        ({"_target_": "nowhere.Part"}, "is nowhere.Part, but there is no module nowhere; check its spelling"),
        ({"_target_": "broken.Part"}, "is broken.Part, but broken cannot be imported: SyntaxError"),
        ({"_target_": "mine.Part", "rat": 1}, "objective.rat is no argument of mine.Part; did you mean objective.ra"),
        ({"_target_": "mine.Part", "rate": 3}, "objective.rate is 3, allowed is 2 or less"),
        ({"_target_": "mine.Part", "rate": "x"}, "objective.rate is 'x', allowed is a number"),
        ({"_target_": "mine.Part", "names": [1]}, "objective.names is [1], allowed is text"),
        ({"_target_": "mine.Whole", "inner": 1}, "objective.size is missing; mine.Whole needs it"),
        (WHOLE | {"inner": {"_target_": "mine.Inner", "_partial_": True}}, "objective.inner.needed is missing"),
        (WHOLE | {"inner": {"_target_": "mine.function"}}, "objective.inner.first is missing"),
        ({"_target_": "mine.Part", "names": [{"_target_": "mine.Nope"}]}, "objective.names[0]._target_ is mine.Nope"),
    ],
)
def test_a_wrong_part_is_said_with_its_key(node: dict[str, Any], expected: str) -> None:
    (found,) = said(node)
    assert expected in found


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "mine.Part"},  # its stage gives the model
        {"_target_": "mine.Part", "lambda_": 7},  # a bound that holds for this package's own parts only
        {"_target_": "mine.Whole", "size": 1, "inner": {"_target_": "mine.Inner", "_partial_": True, "needed": 1}},
        {"_target_": "mine.Anything", "whatever": 1},
        {"_target_": "needs_more.Part", "whatever": 1},  # the stage that uses it says what is not installed
        {"_target_": "dreamset.models.latents.GaussianLatent", "size": 3},  # its name of before
    ],
)
def test_a_part_that_can_be_built_is_accepted(node: dict[str, Any]) -> None:
    assert said(node) == []


def test_what_a_caller_passes_by_name_counts_for_partials_only() -> None:
    node = {"_target_": "mine.Whole", "size": 1, "inner": {"_target_": "mine.Inner", "first": 1, "needed": 1}}
    assert said(node) == ["objective.inner.given is missing; mine.Inner needs it"]


def test_composition_refuses_a_wrong_part_of_a_stage_that_runs_much_later() -> None:
    with pytest.raises(UserError, match=r"environment\.image_siez is no argument of .*did you mean .*image_size"):
        compose(["+dataset.environment.image_siez=3"])
    with pytest.raises(UserError, match=r"reward\._target_ is mine\.Nope, but there is no Nope in mine"):
        compose(["reward._target_=mine.Nope"])


def test_an_environment_whose_library_is_missing_does_not_stop_composition() -> None:
    config = compose(["dataset.environment={_target_: needs_more.Part, _partial_: true}", "dataset=pendulum_state"])
    assert config["dataset"]["environment"]["_target_"] == "needs_more.Part"
