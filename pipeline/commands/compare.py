"""``dreamset compare``."""

from pathlib import Path

from dreamset.pipeline.commands import stages
from dreamset.pipeline.commands.base import Commands, command, take_quiet
from dreamset.pipeline.stages.table import COMPARE

EXAMPLES = """\
examples:
  dreamset resolve && dreamset compare       all objectives of params.yaml, once they are trained
  dreamset compare --resolved FILE           another choice of objectives and seeds
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    compare = command(commands, COMPARE.command, COMPARE.help, EXAMPLES)
    compare.add_argument(
        "--resolved",
        type=Path,
        default=Path("resolved/compare.yaml"),
        help="file with the settings; default: %(default)s",
    )
    take_quiet(compare)
    compare.set_defaults(run=stages.run, stage=COMPARE, overrides=[], multirun=False)
