"""Loading a model for other data: differences, refusals and partial loading."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.pipeline.artifacts.compatibility import differences, fitted_spec, load_fitting
from dreamset.pipeline.report.tables import columns
from tests.pipeline.registered import spec

IMAGE = ArraySpec((8, 8, 3), "uint8")


def test_differences_have_a_verdict_per_key() -> None:
    unequal = differences({"a": "1", "b": "2", "same": "3"}, {"b": "20", "c": "4", "same": "3"})
    assert [(d.key, d.verdict) for d in unequal] == [("a", "unexpected"), ("b", "different"), ("c", "missing")]


def two_layers(*, inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 2), nn.Linear(2, 1))


def test_fitting_weights_are_loaded_and_others_are_logged_and_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    saved, wanted = two_layers(inputs=3).state_dict(), two_layers(inputs=4)
    before = {key: value.clone() for key, value in wanted.state_dict().items()}
    del saved["1.bias"]
    with caplog.at_level(logging.WARNING):
        unequal = load_fitting(wanted, saved, strict=False, where="there")
    after = wanted.state_dict()
    assert [d.key for d in unequal] == ["0.weight", "1.bias"]
    assert all(torch.equal(after[key], before[key]) for key in ("0.weight", "1.bias"))
    assert all(torch.equal(after[key], saved[key]) for key in ("0.bias", "1.weight"))
    assert not torch.equal(before["1.weight"], saved["1.weight"])
    (record,) = caplog.records
    assert "there: loaded the keys that fit; skipped these 2 keys" in record.message
    assert "different  0.weight  [2, 3]       [2, 4]" in record.message


def test_strict_loading_changes_nothing_unless_all_keys_fit() -> None:
    saved, wanted = two_layers(inputs=3).state_dict(), two_layers(inputs=4)
    before = {key: value.clone() for key, value in wanted.state_dict().items()}
    with pytest.raises(UserError, match="there does not fit the network: 1 of 4 keys differ"):
        load_fitting(wanted, saved, strict=True, where="there")
    assert all(torch.equal(value, before[key]) for key, value in wanted.state_dict().items())
    assert load_fitting(wanted, two_layers(inputs=4).state_dict(), strict=True, where="there") == []


def test_different_observations_and_bounds_are_listed() -> None:
    with pytest.raises(UserError) as error:
        fitted_spec(spec(size=3, camera=IMAGE), spec(size=4, high=1.0, touch=IMAGE), strict=True, where="m/1")
    first, head, *lines = str(error.value).splitlines()
    assert first.startswith("m/1 was trained on other data")
    assert head.split() == ["key", "the", "model", "the", "dataset"]
    assert [" ".join(line.split()) for line in lines] == [
        "different action bounds -2 to 2 -1 to 1",
        "unexpected observation camera uint8 [8, 8, 3] -",
        "different observation state float32 [3] float32 [4]",
        "missing observation touch - uint8 [8, 8, 3]",
    ]


def test_non_strict_loading_keeps_statistics_of_fitting_observations(caplog: pytest.LogCaptureFixture) -> None:
    goal = ArraySpec((2,), "float32")
    saved, data = spec(size=3, high=2.0), spec(size=3, high=1.0, goal=goal)
    statistics = {name: replace(known, mean=(9.0,) * len(known.mean)) for name, known in data.statistics.items()}
    data = replace(data, statistics=statistics)
    fitted = fitted_spec(saved, data, strict=False, where="m/1")
    assert fitted.observations == data.observations
    assert fitted.action == saved.action
    assert fitted.statistics["state"] == saved.statistics["state"]
    assert fitted.statistics["goal"].mean == (9.0, 9.0)
    assert "missing    observation goal" in caplog.text


def test_equal_specifications_fit_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert fitted_spec(spec(), spec(), strict=True, where="m/1") == spec()
    assert not caplog.records


@pytest.mark.parametrize("strict", [True, False])
def test_different_actions_are_always_refused(strict: bool) -> None:
    with pytest.raises(
        UserError, match=r"m/1 has 1 continuous actions, the dataset has 2 continuous; .* train a new model"
    ):
        fitted_spec(spec(action=1), spec(action=2), strict=strict, where="m/1")
    with pytest.raises(UserError, match="m/1 has 2 continuous actions, the dataset has 2 discrete;"):
        fitted_spec(spec(action=2), spec(action=2, discrete=True), strict=strict, where="m/1")


def test_table_columns_align_and_replace_control_characters() -> None:
    text = columns(("a", "long name"), [("wide cell", "b"), ("\x1b[31mred\n", "c")], indent=" ")
    assert text.splitlines() == [" a          long name", " wide cell  b", " ?[31mred?  c"]
