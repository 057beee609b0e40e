"""The console command ``dreamset``."""

import argparse
import logging
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import FrameType

# PyTorch reads this when it creates its threads. If waiting threads spin for long, a busy machine becomes a hundred
# times slower. If they never spin, several threads on an idle machine are slower than one. This number limits both.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from dreamset.core import disk
from dreamset.core.errors import UserError
from dreamset.pipeline.arguments import ArgumentParser, unknown
from dreamset.pipeline.commands import (
    adapt,
    clean,
    compare,
    completion,
    doctor,
    dream,
    experiments,
    export,
    init,
    list_,
    resolve,
    results,
    show,
    stages,
    tools,
    ui,
)
from dreamset.pipeline.config.project import make_importable
from dreamset.pipeline.tracking.address import MaskedFormatter, masked

COMMANDS = {  # title on the help page -> its commands, in this order
    "the pipeline, stage by stage": (stages, compare, resolve, adapt),
    "look at data, settings and results": (results, experiments, dream, ui, list_, show, tools),
    "use a policy elsewhere": (export,),
    "projects and this machine": (init, doctor, clean, completion),
}
DESCRIPTION = "Train and compare world models on recorded data, without a simulator."
EPILOG = """\
`dvc repro` runs the whole pipeline with the settings in params.yaml. A single stage takes settings:

  dreamset train-world-model preset=tiny objective=contrastive seed=1
  dreamset learn-behavior behavior.horizon=10

GROUP=NAME selects the file configs/GROUP/NAME.yaml; `dreamset list` lists groups and names. KEY=VALUE sets a single
value; `dreamset show STAGE --origin` prints all of them and where each is set. `dreamset COMMAND --help` has examples.
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
    parser = Parser()
    if not arguments:
        parser.print_help()
        sys.exit()
    options, rest = parser.parse_known_args(arguments)
    if rest and ("overrides" not in options or any(text.startswith("-") for text in rest)):
        raise UserError(f"{unknown(rest)}; see `dreamset {group} --help`")
    if rest:  # overrides after an option, which argparse does not join with those before it
        options.overrides = [*options.overrides, *rest]
    return options


class Parser(ArgumentParser):
    """The parser of ``dreamset`` itself, whose help page groups the commands."""

    def __init__(self) -> None:
        super().__init__(prog="dreamset")
        self.add_argument("--version", action="version", version=f"dreamset {version('dreamset')}")
        commands = self.add_subparsers(metavar="COMMAND", required=True, parser_class=ArgumentParser)
        self.texts: dict[str, dict[str, str]] = {}
        before: set[str] = set()
        for title, modules in COMMANDS.items():
            for module in modules:
                module.add(commands)
            listed = {action.dest: action.help or "" for action in commands._choices_actions}
            self.texts[title] = {name: text for name, text in listed.items() if name not in before}
            before |= listed.keys()
        self.commands = {
            name: {action.dest for action in parser._actions} for name, parser in commands.choices.items()
        }  # command -> its arguments

    def format_help(self) -> str:
        """The help page, as wide as the terminal."""
        width = min(shutil.get_terminal_size().columns, 120)
        return f"usage: dreamset COMMAND [options]\n\n{DESCRIPTION}\n\n{command_list(self.texts, width)}\n\n{EPILOG}"


def command_list(texts: Mapping[str, Mapping[str, str]], width: int) -> str:
    """Commands with their descriptions, below the titles of their groups."""
    indent = max(len(name) for group in texts.values() for name in group) + 4
    lines: list[str] = []
    for title, group in texts.items():
        lines += ["", f"{title}:"]
        for name, text in group.items():
            start = f"  {name}".ljust(indent)
            lines += textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * indent)
    return "\n".join(lines[1:])
