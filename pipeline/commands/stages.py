"""The stages of the pipeline as commands."""

import argparse
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.pipeline.commands.base import Commands, command, take_overrides
from dreamset.pipeline.stages.table import STAGES as TABLE
from dreamset.pipeline.stages.table import Stage
from dreamset.pipeline.tracking.labels import labelled

STAGES = {stage.command: stage for stage in TABLE.values()}


def add(commands: Commands) -> None:
    """Adds one command per stage."""
    for name, stage in STAGES.items():
        parser = command(commands, name, stage.help)
        take_overrides(parser)
        parser.add_argument(
            "--resolved", type=Path, help="take the settings from this file, as dvc.yaml does; allows no overrides"
        )
        parser.set_defaults(run=run, stage=stage)


def run(options: argparse.Namespace) -> None:
    """Runs a stage with the settings of its resolved file, or with overrides."""
    from dreamset.pipeline.config.compose import composed, require_effect, with_drawn_seed
    from dreamset.pipeline.config.dependencies import with_code
    from dreamset.pipeline.stages import manual, resolve

    stage: Stage = options.stage
    if options.resolved is not None:
        if options.overrides:
            raise UserError(f"--resolved allows no overrides, got {' '.join(options.overrides)}; change params.yaml")
        config, labels = resolve.read_resolved(options.resolved, stage.settings), resolve.read_labels(options.resolved)
    else:
        composition = composed(with_drawn_seed(options.overrides))
        require_effect(composition.without_effect)
        settings, labels = manual.settings(stage, composition), composition.labels
        config = with_code(stage.name, settings, composition.config)
    with labelled(labels):
        lines = stage.run(config)
    for line in lines:
        print(line)  # noqa: T201
