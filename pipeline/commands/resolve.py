"""``dreamset resolve``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dreamset.pipeline.commands.base import Commands, command

EXAMPLES = """\
examples:
  dreamset resolve               and print which settings have changed
  dreamset resolve --if-changed  as `dvc repro` does
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    resolve = command(
        commands, "resolve", "compose the settings of every stage from params.yaml and configs/", EXAMPLES
    )
    resolve.add_argument("--params", type=Path, default=Path("params.yaml"), help="file to read; default: %(default)s")
    resolve.add_argument("--output", type=Path, default=Path("resolved"), help="folder to write; default: %(default)s")
    resolve.add_argument(
        "--if-changed",
        action="store_true",
        help="compose, and ask the registry, only if params.yaml, a configuration or the code has changed",
    )
    resolve.set_defaults(run=_run_resolve)


def _run_resolve(options: argparse.Namespace) -> None:
    from dreamset.pipeline.stages import resolve

    changes = resolve.run(options.params, options.output, if_changed=options.if_changed)
    print(_summary(str(options.output), changes))  # noqa: T201


def _summary(output: str, changes: Sequence[str]) -> str:
    if not changes:
        return f"{output}: nothing has changed"
    if all(change.endswith(": added") for change in changes):
        return f"{output}: wrote the settings of {len(changes)} runs of stages"
    return "\n".join([f"{output}: changed:", *changes])
