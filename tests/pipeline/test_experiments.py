"""The table of experiments fits a terminal and shows what each experiment changed."""

from pathlib import Path
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.report import experiments

OBJECTIVES = ("reward_only", "predictive_contrastive")


def entry(rev: str, name: str | None, returns: float, *, overrides: Any = None, **more: Any) -> dict[str, Any]:
    """A line as ``dvc exp show --json`` has it; the second objective earns one more than the first."""
    params = {"preset": "small", "dataset": "pendulum_pixels", "seeds": [0], "overrides": overrides}
    metrics = {
        f"runs/comparison/metrics/{objective}.json": {
            "data": {"probe_r2": 0.25, "return_iqm": returns + number, "reward_error_h15": None}
        }
        for number, objective in enumerate(OBJECTIVES)
    }
    others = {"metrics.json": {"data": {"loss": 1.0}}}
    data = {"params": {"params.yaml": {"data": params}}, "metrics": metrics | others}
    return {"rev": rev, "name": name, "data": data, "error": None, "experiments": None} | more


def shown(*runs: dict[str, Any], workspace: float = 20.0) -> list[str]:
    baseline = entry("b" * 40, "main", 20.0, experiments=[{"revs": [run]} for run in runs])
    return experiments.table([entry("workspace", None, workspace), baseline])


def test_row_has_the_settings_that_differ_from_the_commit_and_the_best_objective_first() -> None:
    lines = shown(entry("c" * 40, "short", 30.0, overrides={"behavior": {"horizon": 3}}))
    assert [line.split() for line in lines[1:]] == [
        ["main", "small", "predictive_contrastive", "21.0", "0.250", "-"],
        ["pendulum_pixels", "reward_only", "20.0", "0.250", "-"],
        ["short", "behavior.horizon=3", "predictive_contrastive", "31.0", "0.250", "-"],
        ["reward_only", "30.0", "0.250", "-"],
    ]
    assert lines[0].split()[:3] == ["experiment", "settings", "objective"]
    assert lines[0].index("return") < lines[0].index("probe")


def test_table_fits_a_hundred_columns_with_long_settings() -> None:
    long = {"dataset": {"source": {"path": "/a/very/long/path/" + "x" * 90}}, "network.hidden": 24}
    lines = shown(entry("c" * 40, "puffy-duck", 30.0, overrides=long))
    assert max(map(len, lines)) <= 100
    assert any("network.hidden=24" in line for line in lines)


def test_working_folder_has_a_row_only_if_it_differs_from_the_commit() -> None:
    assert not any("workspace" in line for line in shown())
    assert any(line.startswith("workspace ") for line in shown(workspace=21.0))


def test_experiment_that_failed_is_named() -> None:
    failed = {"rev": "d" * 40, "name": "broken", "data": None, "error": {"msg": "no"}, "experiments": None}
    assert shown(failed)[-1] == "broken (failed)"


def test_folder_without_dvc_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`dvc exp show`: .*; experiments need DVC in a git repository") as error:
        experiments.lines(tmp_path)
    assert "\n" not in str(error.value)
