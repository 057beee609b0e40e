"""The stages of the pipeline as commands."""

import argparse
import os
from functools import partial
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.pipeline.commands import sweep
from dreamset.pipeline.commands.announcement import announced, inputs_of
from dreamset.pipeline.commands.base import Commands, command, settings_by_hand, take_overrides, take_quiet
from dreamset.pipeline.progress import QUIET
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
        sweep.take_multirun(parser)
        take_quiet(parser)
        parser.notes = partial(_notes, stage)
        parser.set_defaults(run=run, stage=stage)


def _notes(stage: Stage) -> str:
    from dreamset.pipeline.tools import stage_help  # reads all configurations

    return stage_help.notes(stage)


def run(options: argparse.Namespace) -> None:
    """Runs a stage with the settings of its resolved file, or with overrides."""
    from dreamset.pipeline.stages import manual, provenance, resolve
    from dreamset.pipeline.tracking.reporting import require_variables

    require_variables()
    stage: Stage = options.stage
    if options.quiet:
        os.environ[QUIET] = "1"
    if options.multirun:
        sweep.run(stage, options.overrides, options.resolved)
        return
    if options.resolved is not None:
        if options.overrides:
            raise UserError(f"--resolved allows no overrides, got {' '.join(options.overrides)}; change params.yaml")
        config, labels = resolve.read_resolved(options.resolved, stage.settings), resolve.read_labels(options.resolved)
        place = resolve.read_place(options.resolved)
    else:
        config, labels = settings_by_hand(stage, options.overrides)
        place = None
    with labelled(labels), announced(stage, config, labels, place):
        lines = stage.run(config)
    if options.resolved is None and not manual.is_of_pipeline(stage, config):
        provenance.write(stage, config, labels, options.overrides, inputs_of(config))
    for line in lines:
        print(line)  # noqa: T201
