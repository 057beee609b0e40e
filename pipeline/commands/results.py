"""``dreamset results``."""

import argparse
from pathlib import Path

from dreamset.pipeline.commands.base import Commands, command


def add(commands: Commands) -> None:
    """Adds the command."""
    results = command(commands, "results", "print the result table, the winner and where the report lies")
    results.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("runs/comparison"),
        help="folder of the comparison; default: %(default)s",
    )
    results.set_defaults(run=_run_results)


def _run_results(options: argparse.Namespace) -> None:
    from dreamset.pipeline.report.result import result_lines

    print("\n".join(result_lines(options.folder)))  # noqa: T201
