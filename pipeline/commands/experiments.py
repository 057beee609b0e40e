"""``dreamset experiments``."""

import argparse

from dreamset.pipeline.commands.base import Commands, command

EXAMPLES = """\
example, in a git repository with a commit:
  dvc exp run -n short -S +overrides.imagination.horizon=10
  dreamset experiments
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    experiments = command(
        commands, "experiments", "list the experiments of `dvc exp run` with what each changed and earned", EXAMPLES
    )
    experiments.set_defaults(run=_run_experiments)


def _run_experiments(_options: argparse.Namespace) -> None:
    from dreamset.pipeline.report.experiments import lines

    print("\n".join(lines()))  # noqa: T201
