"""Values of a mapping of overrides keep their type and their characters in Hydra's syntax."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dreamset.pipeline.config.mapped import in_hydra_syntax

VALUES: list[Any] = [
    None,
    True,
    10,
    1e-05,
    float("inf"),
    "small",
    "/home/me/data.h5",
    "cuda:0",
    "a b",
    "10",
    ".5",
    "1e-5",
    "null",
    "False",
    "a,b",
    "x:",
    "ü",
    "~/data",
    "-x",
    "",
    "it's",
    'a"b',
    "a\\",
    'a\\"b\\',
    "two\nlines",
    "[1, 2]",
    "{a: b}",
    "${oc.env:HOME}/data",
    [],
    {},
    [1, "a, b", None, ["x:", True]],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_is_read_as_it_was_written(value: Any) -> None:
    for whole in (value, [value, value], [{"x y": value, "a.b": {"c": value}}]):
        (override,) = in_hydra_syntax({"key": whole}, [])
        parsed = OverridesParser.create().parse_override(override).value()
        assert parsed == whole
        assert repr(parsed) == repr(whole)  # True is not 1, and 10 is not 10.0


def test_plain_text_has_no_quotes() -> None:
    assert in_hydra_syntax({"world_model": "from_registry", "device": "cuda:0"}, []) == [
        "world_model=from_registry",
        "device=cuda:0",
    ]
