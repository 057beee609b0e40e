"""``dreamset ui``."""

import argparse
import signal

from dreamset.pipeline.commands.base import Commands, command


def add(commands: Commands) -> None:
    """Adds the command."""
    ui = command(commands, "ui", "start the MLflow UI, with the metrics of all runs; Ctrl-C ends it")
    ui.add_argument("--port", type=int, default=5000, help="port of the server; default: %(default)s")
    ui.set_defaults(run=_run_ui)


def _run_ui(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tracking import ui

    pages = ui.prepare(options.port)
    if not pages.command:
        where = "is running already" if pages.running else "is served by your MLflow server"
        print(f"MLflow UI {where}:\n{pages.text}", flush=True)  # noqa: T201
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the server, too
    try:
        print("MLflow UI: starting, usually 10 to 40 s", flush=True)  # noqa: T201
        with ui.serving(pages) as server:
            print(f"MLflow UI (Ctrl-C ends it):\n{pages.text}", flush=True)  # noqa: T201
            server.wait()
    except KeyboardInterrupt:
        print("\nMLflow UI: ended", flush=True)  # noqa: T201
