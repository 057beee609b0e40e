"""Arguments of parts are checked when the configuration is composed, not after a stage has run for an hour."""

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


def findings(node: Mapping[str, Any], key: str = "objective") -> list[str]:
    return [f"{mistake.key} {mistake.finding}" for mistake in mistakes(node, key)]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "mine.Nope"}, "objective._target_ is mine.Nope, but mine has no Nope"),
        ({"_target_": "mine.Prat"}, "did you mean Part?"),
        ({"_target_": "nowhere.Part"}, "is nowhere.Part, but no module nowhere exists; check the spelling"),
        ({"_target_": "broken.Part"}, "is broken.Part, but broken cannot be imported: SyntaxError"),
        ({"_target_": "mine.Part", "rat": 1}, "objective.rat is no argument of mine.Part; did you mean objective.ra"),
        ({"_target_": "mine.Part", "rate": 3}, "objective.rate is 3; allowed: 2 or less"),
        ({"_target_": "mine.Part", "rate": "x"}, "objective.rate is 'x'; allowed: a number"),
        ({"_target_": "mine.Part", "names": [1]}, "objective.names is [1]; allowed: text"),
        ({"_target_": "mine.Whole", "inner": 1}, "objective.size is missing, but mine.Whole needs it; set it"),
        (WHOLE | {"inner": {"_target_": "mine.Inner", "_partial_": True}}, "objective.inner.needed is missing"),
        (WHOLE | {"inner": {"_target_": "mine.function"}}, "objective.inner.first is missing"),
        ({"_target_": "mine.Part", "names": [{"_target_": "mine.Nope"}]}, "objective.names[0]._target_ is mine.Nope"),
    ],
)
def test_wrong_part_is_reported_with_its_key(node: dict[str, Any], expected: str) -> None:
    (finding,) = findings(node)
    assert expected in finding


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "mine.Part"},  # its stage passes the model
        {"_target_": "mine.Part", "lambda_": 7},  # BOUNDS applies only to parts of this package
        {"_target_": "mine.Whole", "size": 1, "inner": {"_target_": "mine.Inner", "_partial_": True, "needed": 1}},
        {"_target_": "mine.Anything", "whatever": 1},
        {"_target_": "needs_more.Part", "whatever": 1},  # the stage reports the missing library
        {"_target_": "dreamset.models.latents.GaussianLatent", "size": 3},  # its old name
    ],
)
def test_valid_parts_are_accepted(node: dict[str, Any]) -> None:
    assert findings(node) == []


def test_arguments_passed_by_a_caller_count_for_partial_parts_only() -> None:
    node = {"_target_": "mine.Whole", "size": 1, "inner": {"_target_": "mine.Inner", "first": 1, "needed": 1}}
    assert findings(node) == ["objective.inner.given is missing, but mine.Inner needs it; set it"]


def test_composition_refuses_wrong_parts_of_later_stages() -> None:
    with pytest.raises(UserError, match=r"environment\.image_siez is no argument of .*did you mean .*image_size"):
        compose(["+dataset.environment.image_siez=3"])
    with pytest.raises(UserError, match=r"reward\._target_ is mine\.Nope, but mine has no Nope"):
        compose(["reward._target_=mine.Nope"])


def test_missing_library_of_an_environment_allows_composition() -> None:
    config = compose(["dataset.environment={_target_: needs_more.Part, _partial_: true}", "dataset=pendulum_state"])
    assert config["dataset"]["environment"]["_target_"] == "needs_more.Part"
