"""The options that the reports of all benchmarks have in common."""

import argparse
from pathlib import Path


def report_parser(description: str | None, *, results: Path, output: Path, content: str) -> argparse.ArgumentParser:
    """A parser for the places of a report and its intervals.

    Args:
        description: of the script.
        results: default folder of the runs and episodes.
        output: default folder of the report.
        content: what is written there.
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
    return parser


def _short(folder: Path) -> str:
    """The folder as seen from the repository's root."""
    return str(folder.relative_to(Path(__file__).parents[1]))
