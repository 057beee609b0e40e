"""The result of the pipeline in the terminal: a table, the winner, where to look, and what to do next."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from dreamset.core.errors import UserError
from dreamset.pipeline.files import read_json
from dreamset.pipeline.report.comparison import reward_error_of
from dreamset.pipeline.report.headline import Headline, headline, records
from dreamset.pipeline.report.tables import columns, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

RESULT = "result.json"  # in the folder of the comparison: what stands beside the table
MARKS = "* best of its column; for returns, also those whose interval reaches it"


@dataclass(frozen=True, slots=True)
class Result:
    """A written comparison."""

    folder: Path
    summary: pd.DataFrame
    words: Mapping[str, Any]  # the content of ``result.json``

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The comparison in ``folder``.

        Raises:
            UserError: if there is none.
        """
        path = folder / "summary.csv"
        if not path.exists():
            raise UserError(f"{path} does not exist, so there is no result yet; run `dvc repro` first")
        return cls(folder, pd.read_csv(path), read_json(folder / RESULT, made_by="dvc repro"))

    @property
    def table(self) -> Headline:
        """The columns by which objectives are compared at first sight."""
        names = ("return_iqm", "imagined_return", "real_return", reward_error_of(self.summary), "probe_r2")
        return headline(self.summary, names, interval=self.words.get("interval", "interval"))

    @property
    def best(self) -> str | None:
        """The objective with the highest return."""
        ranked = self.summary.dropna(subset=["return_iqm"]).sort_values("return_iqm", ascending=False)
        return None if ranked.empty else str(ranked["objective"].iloc[0])

    @property
    def places(self) -> dict[str, str]:
        """Where to look."""
        runs = self.folder.parent
        return {
            "report": (self.folder / "report.html").as_posix(),
            "videos": f"{(runs / 'world_model/*/media').as_posix()}, {(runs / 'evaluation/*/media').as_posix()}",
        }

    def plain(self) -> dict[str, Any]:
        """Everything for machines: plain values; null for a figure that was not measured."""
        rows = [{name: _value(value) for name, value in row.items()} for row in records(self.summary)]
        return {**self.words, "objectives": rows, "best": self.best, **self.places}


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def result_lines(folder: Path) -> list[str]:
    """The result as plain text.

    Raises:
        UserError: if there is no comparison.
    """
    result = Result.read(folder)
    table = result.table
    rows = [[_marked(figure.text, best=figure.best) for figure in row] for row in table.rows]
    text = columns([f"{name} " for name in table.head], rows, indent="  ", right=range(1, len(table.head)))
    marks = [f"  {MARKS}"] if any(figure.best for row in table.rows for figure in row) else []
    return ["", result.words["title"], "", text, *marks, "", *_closing(result)]


def _marked(text: str, *, best: bool) -> str:
    return f"{text}{'*' if best else ' '}"


def result_shown(folder: Path) -> "RenderableType":
    """The result for a terminal, as an object that Rich prints.

    Raises:
        UserError: if there is no comparison.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    result = Result.read(folder)
    table = result.table
    shown = Table(
        box=box.SIMPLE_HEAD,
        title=Text(result.words["title"], "bold"),
        caption=MARKS,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    cells = [
        [Text(plain(_marked(one.text, best=one.best)), "bold green" if one.best else "") for one in row]
        for row in table.rows
    ]
    for number, name in enumerate(table.head):
        lines = name.rpartition(" ")  # narrow, so that the cells need no breaks
        head = Text(f"{lines[0]}\n{lines[2]}".strip())
        shown.add_column(head, justify="right" if number else "left", vertical="bottom")
    for row in cells:
        shown.add_row(*row)
    return Group(shown, *(Text(line) for line in _closing(result)))


def _closing(result: Result) -> list[str]:
    return [
        result.words["winner"],
        *result.words["caveats"],
        "",
        *(f"{name}: {place}" for name, place in result.places.items()),
        "",
        "next:",
        *(f"  {line}" for line in next_commands(result.best, result.words)),
    ]


def short_lines(folder: Path) -> list[str]:
    """The winner and where to look, for the end of the stage ``compare``."""
    result = read_json(folder / RESULT, made_by="dvc repro")
    page = folder / "report.html"
    return [f"{result['title']}: {result['winner']}", f"{page} has all figures; `dreamset results` prints the table"]


def next_commands(best: str | None, result: Mapping[str, Any]) -> Sequence[str]:
    """Three commands that fit the result, each with its purpose."""
    pairs = [("dreamset ui", "compare all curves in MLflow")]
    if best is not None and best in result["exploited"]:
        pessimism = "world_model/ensemble=priors, reward=mean_disagreement, reward/weight=calibrated"
        pairs.append((f"add to overrides in params.yaml: {pessimism}", "pessimism against exploited errors"))
    elif best is not None:
        pairs.append((f"dreamset finetune objective={best}", "train further in the environment"))
    if best is not None:
        command = f"dreamset export objective={best} --output my_policy"
        pairs.append((command, "a policy that runs without this package"))
    width = max(len(command) for command, _ in pairs if len(command) < 80)
    return [f"{command.ljust(width)}  {purpose}" for command, purpose in pairs]
