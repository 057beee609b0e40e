"""``dreamset adapt``."""

import argparse

from dreamset.pipeline.commands import stages, sweep
from dreamset.pipeline.commands.base import Commands, take_overrides, take_quiet

EXAMPLES = """\
examples (the dataset of the world model must have been collected, ingested and trained on before):
  dreamset adapt dataset=pendulum_spin world_model.name=pendulum_state.world_model
  dreamset adapt dataset=pendulum_heavy adaptation=slow_dynamics world_model.name=pendulum_state.world_model
"""
ADAPT = (
    "world_model=from_registry",
    "adaptation=heads_only",
)  # overrides that `dreamset adapt` puts before those of the user


def add(commands: Commands) -> None:
    """Adds the command."""
    adapt = commands.add_parser(
        "adapt",
        help="train an existing world model further on another task",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Train an existing world model further: train-world-model with the defaults {' '.join(ADAPT)}.",
    )
    take_overrides(adapt, "Hydra overrides, e.g. dataset=pendulum_spin")
    sweep.take_multirun(adapt)
    take_quiet(adapt)
    adapt.set_defaults(run=_run_adapt)


def _run_adapt(options: argparse.Namespace) -> None:
    options.stage, options.resolved = stages.STAGES["train-world-model"], None
    options.overrides = [*ADAPT, *options.overrides]
    stages.run(options)
