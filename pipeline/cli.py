"""The console command ``dreamset``."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType

# PyTorch reads this when it creates its threads. If waiting threads spin for long, a busy machine becomes a hundred
# times slower. If they never spin, several threads on an idle machine are slower than one. This number limits both.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from dreamset.core import disk
from dreamset.core.errors import UserError
from dreamset.pipeline.arguments import ArgumentParser, unknown
from dreamset.pipeline.commands import adapt, compare, export, init, resolve, results, show, stages, tools, ui
from dreamset.pipeline.config.project import make_importable
from dreamset.pipeline.tracking.address import MaskedFormatter, masked

COMMANDS = (stages, show, adapt, compare, results, resolve, export, init, tools, ui)  # in the order of the help page
EPILOG = """\
`dvc repro` runs the whole pipeline with the settings in params.yaml. A single stage takes Hydra overrides:

  dreamset train-world-model preset=tiny objective=contrastive seed=1
  dreamset ingest dataset=my_robot
  dreamset adapt dataset=pendulum_spin world_model.name=pendulum_state.world_model

Print the settings of a stage, and where each of them is set:

  dreamset show learn-behavior preset=small_v2 --origin

GROUP=NAME selects the file configs/GROUP/NAME.yaml. Groups are dataset, objective, world_model, behavior, preset, size
and the other folders of configs/. KEY=VALUE sets a single value; configs/config.yaml lists the keys.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command. A user's mistake prints one line and exits with status 2."""
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(MaskedFormatter("%(levelname)s %(name)s: %(message)s"))
    signal.signal(signal.SIGTERM, _interrupt)
    failure = _run(sys.argv[1:] if arguments is None else arguments)
    if failure is not None:
        status, message = failure
        print(f"dreamset: {masked(message)}", file=sys.stderr)  # noqa: T201 - the command's own voice
        sys.exit(status)


def _run(arguments: Sequence[str]) -> tuple[int, str] | None:
    """Runs a command, and returns status and message of a failure.

    The message is printed later, when the traceback is released and its progress bars are closed.
    """
    try:
        make_importable()
        options = _parse(arguments)
        options.run(options)
    except UserError as error:
        return 2, f"error: {error}"
    except KeyboardInterrupt:
        return 130, "interrupted; the same command resumes from the last checkpoint, if there is one"
    except Exception as error:
        fault = disk.explained(error)
        if fault is None:
            raise
        return 2, f"error: {fault}"
    return None


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    group = arguments[0] if arguments else ""
    if group in tools.TOOLS:
        return tools.TOOLS[group]().parse_args(arguments[1:])
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and ("overrides" not in options or any(text.startswith("-") for text in rest)):
        raise UserError(f"{unknown(rest)}; see `dreamset {group} --help`")
    if rest:  # overrides after an option, which argparse does not join with those before it
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="dreamset",
        description="Train and compare world models on recorded data, without a simulator.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dreamset {version('dreamset')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add(commands)
    return parser
