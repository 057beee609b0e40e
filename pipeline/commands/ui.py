"""``dreamset ui``."""

import argparse
import os

from dreamset.pipeline.commands.base import Commands, command


def add(commands: Commands) -> None:
    """Adds the command."""
    ui = command(commands, "ui", "start the MLflow UI, with the metrics of all runs")
    ui.add_argument("--port", type=int, default=5000, help="port of the server; default: %(default)s")
    ui.set_defaults(run=_run_ui)


def _run_ui(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tracking import ui

    address, command = ui.prepare(options.port)
    print(f"MLflow UI: {address}", flush=True)  # noqa: T201
    if command:
        os.execv(command[0], command)  # noqa: S606
