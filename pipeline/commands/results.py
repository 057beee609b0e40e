"""``dreamset results``."""

import argparse
import json
import sys
from pathlib import Path

from dreamset.pipeline.commands.base import Commands, command

EXAMPLES = """\
examples:
  dreamset results                           the table, the winner and what to do next
  dreamset results --json                    all figures for a program; a figure that was not measured is null
  dreamset results FOLDER                    another comparison
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    results = command(commands, "results", "print the result table, the winner and where the report lies", EXAMPLES)
    results.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("runs/comparison"),
        help="folder of the comparison; default: %(default)s",
    )
    results.add_argument("--json", action="store_true", help="print all figures as json")
    results.set_defaults(run=_run_results)


def _run_results(options: argparse.Namespace) -> None:
    from dreamset.pipeline.report.result import Result, result_lines, result_shown

    if options.json:
        print(json.dumps(Result.read(options.folder).plain(), indent=2, ensure_ascii=False))  # noqa: T201
    elif sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(result_shown(options.folder))
    else:
        print("\n".join(result_lines(options.folder)))  # noqa: T201
