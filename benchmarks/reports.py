"""What the reports of all benchmarks have in common: options, how they end, and where their text stands."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dreamset.core.errors import UserError
from dreamset.core.files import write_text

END = "<!-- end -->"


def run_report(
    parser: argparse.ArgumentParser, write: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None
) -> None:
    """Writes a report with the options of the command line; a user's error ends it in one line."""
    options = parser.parse_args(arguments)
    try:
        write(options)
    except UserError as error:
        sys.exit(f"error: {error}")


def report_parser(
    description: str | None, *, results: Path, output: Path, content: str, benchmark: Path | None = None
) -> argparse.ArgumentParser:
    """A parser for the places of a report and its intervals.

    Args:
        description: of the script.
        results: default folder of the runs and episodes.
        output: default folder of the report.
        content: what is written there.
        benchmark: default yaml file of the benchmark; None: no such option.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=results, help="folder of runs.csv and episodes.csv")
    parser.add_argument("--output", type=Path, default=output, help=f"folder of {content} (default: {_short(output)})")
    parser.add_argument(
        "--confidence", type=float, default=0.95, help="confidence of the intervals (default: %(default)s)"
    )
    parser.add_argument(
        "--resamples", type=int, default=10_000, help="resamples of the bootstrap (default: %(default)s)"
    )
    if benchmark is not None:
        parser.add_argument("--benchmark", type=Path, default=benchmark, help=f"yaml file in place of {benchmark.name}")
    return parser


def measured(runs: pd.DataFrame, planned: Mapping[str, int]) -> str:
    """How many of the planned rows of every task are in ``runs``."""
    counts = (f"{(runs['task'] == task).sum()} of {count} rows of `{task}`" for task, count in planned.items())
    return f"Measured so far: {', '.join(counts)}."


def insert(path: Path, text: str, *, begin: str, end: str = END) -> None:
    """Replaces the text between the marks.

    Raises:
        UserError: if a mark is missing.
    """
    before, opening, rest = path.read_text().partition(begin)
    _, closing, after = rest.partition(end)
    if not (opening and closing):
        raise UserError(f"{path} lacks {begin} or {end} after it; add both where the tables belong")
    write_text(path, f"{before}{begin}\n\n{text}\n{end}{after}")


def _short(folder: Path) -> str:
    """The folder as seen from the repository's root."""
    return str(folder.relative_to(Path(__file__).parents[1]))
