"""``dreamset init``."""

import argparse
from pathlib import Path

from dreamset.pipeline.commands.base import Commands, command

EXAMPLES = """\
examples:
  dreamset init my_project && cd my_project && dvc repro
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    init = command(commands, "init", "create a project of your own, in which `dvc repro` runs", EXAMPLES)
    init.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="folder of the project; default: the working folder"
    )
    init.set_defaults(run=_run_init)


def _run_init(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools import init

    print("\n".join(init.run(options.folder)))  # noqa: T201
