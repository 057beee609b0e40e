"""``dreamset clean``."""

import argparse
from pathlib import Path

from dreamset.pipeline.commands.base import Commands, command

EXAMPLES = """\
examples:
  dreamset clean            what would be removed: checkpoints of trainings that nobody has continued for 14 days
  dreamset clean --force    removes them
  dreamset clean --days 1   those of yesterday, too

A training removes its own checkpoints when it has finished. Stores, models and results are never removed.
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "clean", "remove checkpoints of trainings that nobody has continued", EXAMPLES)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(".checkpoints"), help="of checkpoints; default: %(default)s"
    )
    parser.add_argument("--days", type=float, default=14.0, help="least age in days; default: %(default)g")
    parser.add_argument("--force", action="store_true", help="remove them instead of listing them")
    parser.set_defaults(run=_run_clean)


def _run_clean(options: argparse.Namespace) -> None:
    from dreamset.core.disk import size_in_words
    from dreamset.pipeline.tools import clean

    found = clean.abandoned(options.folder, days=options.days)
    if options.force:
        clean.remove(found)
    for each in found:
        print(each.line)  # noqa: T201
    total = size_in_words(sum(each.size for each in found))
    if not found:
        print(f"nothing to remove: no training in {options.folder} is older than {options.days:g} days")  # noqa: T201
    elif options.force:
        print(f"removed {total}")  # noqa: T201
    else:
        print(f"{total}; `dreamset clean --force` removes this, and the trainings would start from scratch")  # noqa: T201
