"""``dreamset show``."""

import argparse

from dreamset.pipeline.commands.base import Commands, command, take_overrides
from dreamset.pipeline.commands.stages import STAGES

EXAMPLES = """\
examples:
  dreamset show learn-behavior preset=small_v2
  dreamset show train-world-model objective=contrastive --origin
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    show = command(commands, "show", "print the settings of a stage as yaml, exactly as it gets them", EXAMPLES)
    show.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    take_overrides(show)
    show.add_argument(
        "--origin", action="store_true", help="add a comment to each value that names the file or override that set it"
    )
    show.set_defaults(run=_run_show)


def _run_show(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools.show import show

    print(show(STAGES[options.stage], options.overrides, origin=options.origin), end="")  # noqa: T201
