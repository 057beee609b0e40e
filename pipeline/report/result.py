"""The result of the pipeline in the terminal: a table, the winner, where to look, and what to do next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dreamset.core.errors import UserError
from dreamset.pipeline.files import read_json
from dreamset.pipeline.report.comparison import reward_error_of
from dreamset.pipeline.report.metrics import label
from dreamset.pipeline.report.tables import columns
from dreamset.pipeline.report.words import number

RESULT = "result.json"  # in the folder of the comparison: what stands beside the table


def result_lines(folder: Path) -> list[str]:
    """The closing lines of the comparison in ``folder``.

    Raises:
        UserError: if there is no comparison.
    """
    path = folder / "summary.csv"
    if not path.exists():
        raise UserError(f"{path} does not exist, so there is no result yet; run `dvc repro` first")
    summary, result = pd.read_csv(path), read_json(folder / RESULT, made_by="dvc repro")
    error = reward_error_of(summary)
    rows = [_row(row, error) for row in summary.to_dict("records")]
    names = ("evaluation/return_iqm", f"validation/{error}", "validation/probe_r2")
    measured, *others = map(label, names)
    head = ("objective", measured, "interval", "imagined / real", *others)
    ranked = summary.dropna(subset=["return_iqm"]).sort_values("return_iqm", ascending=False)
    best = None if ranked.empty else str(ranked["objective"].iloc[0])
    return [
        "",
        result["title"],
        "",
        columns(head, rows, indent="  "),
        "",
        result["winner"],
        *result["caveats"],
        "",
        *_places(folder),
        "",
        "next:",
        *(f"  {line}" for line in next_commands(best, result)),
    ]


def short_lines(folder: Path) -> list[str]:
    """The winner and where to look, for the end of the stage ``compare``."""
    result = read_json(folder / RESULT, made_by="dvc repro")
    page = folder / "report.html"
    return [f"{result['title']}: {result['winner']}", f"{page} has all figures; `dreamset results` prints the table"]


def _row(row: Mapping[Any, Any], error: str) -> Sequence[str]:
    return (
        str(row["objective"]),
        number(row.get("return_iqm"), 1),
        f"{number(row.get('return_iqm_low'), 1)} to {number(row.get('return_iqm_high'), 1)}",
        f"{number(row.get('imagined_return'), 1)} / {number(row.get('real_return'), 1)}",
        number(row.get(error), 4),
        number(row.get("probe_r2"), 3),
    )


def _places(folder: Path) -> list[str]:
    runs = folder.parent
    places = [("report", folder / "report.html"), ("videos", runs / "world_model/*/media, evaluation/*/media")]
    return [f"{name}: {path}" for name, path in places]


def next_commands(best: str | None, result: Mapping[str, Any]) -> list[str]:
    """Three commands that fit the result, each with its purpose."""
    lines = ["dreamset ui".ljust(44) + "compare all curves in MLflow"]
    if best in result["exploited"]:
        pessimism = "world_model/ensemble=priors, reward=mean_disagreement, reward/weight=calibrated"
        lines.append(f"add to overrides in params.yaml: {pessimism}")
    elif best is not None:
        lines.append(f"dreamset finetune objective={best}".ljust(44) + "learn on in the environment")
    if best is not None:
        command = f"dreamset export objective={best} --output my_policy"
        lines.append(
            command.ljust(44) + ("  " if len(command) > 43 else "") + "a policy that runs without this package"
        )
    return lines
