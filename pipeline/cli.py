"""The console command ``dreamset``."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TypeAlias

# PyTorch reads this when it creates its threads. If waiting threads spin for long, a busy machine becomes a hundred
# times slower. If they never spin, several threads on an idle machine are slower than one. This number limits both.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from dreamset.core import disk
from dreamset.core.errors import UserError
from dreamset.pipeline.arguments import ArgumentParser, unknown
from dreamset.pipeline.config.project import make_importable
from dreamset.pipeline.stages.table import COMPARE, Stage
from dreamset.pipeline.stages.table import STAGES as TABLE
from dreamset.pipeline.tracking.address import MaskedFormatter, masked

Commands: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"

STAGES = {stage.command: stage for stage in TABLE.values()}
ADAPT = (
    "world_model=from_registry",
    "adaptation=heads_only",
)  # overrides that `dreamset adapt` puts before those of the user
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
    if group in TOOLS:
        return TOOLS[group]().parse_args(arguments[1:])
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and ("overrides" not in options or any(text.startswith("-") for text in rest)):
        raise UserError(f"{unknown(rest)}; see `dreamset {group} --help`")
    if rest:  # overrides after an option, which argparse does not join with those before it
        options.overrides = [*options.overrides, *rest]
    return options


def _data_tools() -> ArgumentParser:
    from dreamset.pipeline.tools import data as data_tools  # loads the libraries of all formats

    return data_tools.parser()


def _model_tools() -> ArgumentParser:
    from dreamset.pipeline.tools import models as model_tools  # loads PyTorch

    parser = model_tools.parser()
    parser.set_defaults(run=_run_model_tool)
    return parser


TOOLS = {"data": _data_tools, "models": _model_tools}  # commands with subcommands


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="dreamset",
        description="Train and compare world models on recorded data, without a simulator.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dreamset {version('dreamset')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, stage in STAGES.items():
        command = _command(commands, name, stage.help)
        command.add_argument(
            "overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, e.g. preset=tiny or seed=1"
        )
        command.add_argument(
            "--resolved", type=Path, help="take the settings from this file, as dvc.yaml does; allows no overrides"
        )
        command.set_defaults(run=_run_stage, stage=stage)
    for add in (_add_show, _add_adapt, _add_compare, _add_resolve, _add_export, _add_init):
        add(commands)
    commands.add_parser("data", help="inspect, verify, export, merge and split datasets; see `dreamset data --help`")
    commands.add_parser(
        "models", help="list, show, compare, export and import trained models; see `dreamset models --help`"
    )
    _add_ui(commands)
    return parser


def _command(commands: Commands, name: str, text: str) -> ArgumentParser:
    """Adds a command. Its help page starts with the text that the list of commands shows."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def _add_show(commands: Commands) -> None:
    show = _command(commands, "show", "print the settings of a stage as yaml, exactly as it gets them")
    show.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    show.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, e.g. preset=tiny or seed=1")
    show.add_argument(
        "--origin", action="store_true", help="add a comment to each value that names the file or override that set it"
    )
    show.set_defaults(run=_run_show)


def _add_adapt(commands: Commands) -> None:
    adapt = commands.add_parser(
        "adapt",
        help="train an existing world model further on another task",
        description=f"Train an existing world model further: train-world-model with the defaults {' '.join(ADAPT)}.",
    )
    adapt.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, e.g. dataset=pendulum_spin")
    adapt.set_defaults(run=_run_adapt)


def _add_compare(commands: Commands) -> None:
    compare = _command(commands, COMPARE.command, COMPARE.help)
    compare.add_argument(
        "--resolved",
        type=Path,
        default=Path("resolved/compare.yaml"),
        help="file with the settings; default: %(default)s",
    )
    compare.set_defaults(run=_run_stage, stage=COMPARE, overrides=[])


def _add_resolve(commands: Commands) -> None:
    resolve = _command(commands, "resolve", "compose the settings of every stage from params.yaml and configs/")
    resolve.add_argument("--params", type=Path, default=Path("params.yaml"), help="file to read; default: %(default)s")
    resolve.add_argument("--output", type=Path, default=Path("resolved"), help="folder to write; default: %(default)s")
    resolve.add_argument(
        "--if-changed",
        action="store_true",
        help="compose, and ask the registry, only if params.yaml, a configuration or the code has changed",
    )
    resolve.set_defaults(run=_run_resolve)


def _add_export(commands: Commands) -> None:
    export = _command(commands, "export", "write a trained policy as a program that runs without this package")
    export.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="Hydra overrides that select the models, e.g. objective=contrastive",
    )
    export.add_argument(
        "--world-model", type=Path, help="folder of a saved world model; default: that of the configuration"
    )
    export.add_argument(
        "--policy", type=Path, help="folder of the policy that was learned in it; default: that of the configuration"
    )
    export.add_argument(
        "--output", type=Path, help="folder to write; an earlier export is replaced; default: a folder in runs/export"
    )
    export.add_argument("--mlflow", action="store_true", help="add an MLflow model that serves the policy over REST")
    export.set_defaults(run=_run_export)


def _add_init(commands: Commands) -> None:
    init = _command(commands, "init", "create a project of your own, in which `dvc repro` runs")
    init.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="folder of the project; default: the working folder"
    )
    init.set_defaults(run=_run_init)


def _add_ui(commands: Commands) -> None:
    ui = _command(commands, "ui", "start the MLflow UI, with the metrics of all runs")
    ui.add_argument("--port", type=int, default=5000, help="port of the server; default: %(default)s")
    ui.set_defaults(run=_run_ui)


def _run_stage(options: argparse.Namespace) -> None:
    from dreamset.pipeline.config.compose import compose, with_drawn_seed
    from dreamset.pipeline.config.dependencies import with_code
    from dreamset.pipeline.stages import resolve

    stage: Stage = options.stage
    if options.resolved is not None:
        if options.overrides:
            raise UserError(f"--resolved allows no overrides, got {' '.join(options.overrides)}; change params.yaml")
        config = resolve.read_resolved(options.resolved, stage.settings)
    else:
        composed = compose(with_drawn_seed(options.overrides))
        config = with_code(stage.name, stage(composed), composed)
    for line in stage.run(config):
        print(line)  # noqa: T201


def _run_show(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools.show import show

    print(show(STAGES[options.stage], options.overrides, origin=options.origin), end="")  # noqa: T201


def _run_adapt(options: argparse.Namespace) -> None:
    stage = STAGES["train-world-model"]
    _run_stage(argparse.Namespace(stage=stage, resolved=None, overrides=[*ADAPT, *options.overrides]))


def _run_resolve(options: argparse.Namespace) -> None:
    from dreamset.pipeline.stages import resolve

    changes = resolve.run(options.params, options.output, if_changed=options.if_changed)
    print("\n".join([f"{options.output}: {'changed:' if changes else 'nothing has changed'}", *changes]))  # noqa: T201


def _run_init(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools import init

    print("\n".join(init.run(options.folder)))  # noqa: T201


def _run_export(options: argparse.Namespace) -> None:
    from dreamset.pipeline.config.compose import compose
    from dreamset.pipeline.export import program as export

    folders = {"world_model": options.world_model, "policy": options.policy, "output": options.output}
    output = export.run(compose(options.overrides), **folders, mlflow=options.mlflow)
    print(f"{output}: exported; {output / 'README.md'} has instructions")  # noqa: T201


def _run_model_tool(options: argparse.Namespace) -> None:
    print(options.answer(options))  # noqa: T201 - output of the tools


def _run_ui(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tracking import ui

    address, command = ui.prepare(options.port)
    print(f"MLflow UI: {address}", flush=True)  # noqa: T201
    if command:
        os.execv(command[0], command)  # noqa: S606
