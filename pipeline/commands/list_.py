"""``dreamset list``."""

import argparse
import shutil
import sys

from dreamset.pipeline.commands.base import Commands, command

EXAMPLES = """\
examples:
  dreamset list                    all groups
  dreamset list datasets           the names that dataset=... takes
  dreamset list world_model/ensemble
  dreamset list metrics | cut -f1  in a pipe: name, tab, description
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "list", "list datasets, objectives, presets and every other choice", EXAMPLES)
    parser.add_argument(
        "group", nargs="?", metavar="GROUP", help="a group of settings, stages, environments or metrics; default: all"
    )
    parser.set_defaults(run=_run_list)


def _run_list(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools import listing

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(listing.table(listing.entries(options.group), width))  # noqa: T201
