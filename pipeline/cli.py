"""The one console command, ``dreamset``."""

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

# Read when torch loads its thread pool. Waiting threads that spin for long make a busy machine a hundred times slower,
# threads that never spin make an idle one slower than a single thread; this bounds both.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from dreamset.core.errors import UserError
from dreamset.pipeline.config.project import make_importable
from dreamset.pipeline.stages.table import COMPARE, Stage
from dreamset.pipeline.stages.table import STAGES as TABLE

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

STAGES = {stage.command: stage for stage in TABLE.values()}
ADAPT = ("world_model=from_registry", "adaptation=heads_only")  # what `dreamset adapt` puts before your overrides
EPILOG = """\
The whole pipeline: `dvc repro` (choices in params.yaml). One stage by hand, with Hydra's overrides:

  dreamset train-world-model preset=tiny objective=contrastive seed=1
  dreamset ingest dataset=my_robot
  dreamset adapt dataset=pendulum_spin world_model.name=pendulum_state.world_model

  dreamset show learn-behavior preset=small_v2 --origin

Choices are the files in configs/: dataset=, objective=, world_model=, behavior=, adaptation=, preset=, size=, ...
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; a user's mistake is one line and status 2."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    failure = _run(sys.argv[1:] if arguments is None else arguments)
    if failure is not None:
        status, message = failure
        print(f"dreamset: {message}", file=sys.stderr)  # noqa: T201 - the command's own voice
        sys.exit(status)


def _run(arguments: Sequence[str]) -> tuple[int, str] | None:
    """Status and message of a failure, said when its traceback is gone: with it the progress bars in it close."""
    try:
        make_importable()
        options = _parse(arguments)
        options.run(options)
    except UserError as error:
        return 2, f"error: {error}"
    except KeyboardInterrupt:
        return 130, "interrupted; the same command goes on from the last checkpoint, if there is one"
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
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # overrides that stand behind an option, which argparse does not put together
        options.overrides = [*options.overrides, *rest]
    return options


def _data_tools() -> argparse.ArgumentParser:
    from dreamset.pipeline.tools import data as data_tools  # loads the formats' libraries

    return data_tools.parser()


def _model_tools() -> argparse.ArgumentParser:
    from dreamset.pipeline.tools import models as model_tools  # loads PyTorch

    parser = model_tools.parser()
    parser.set_defaults(run=_run_model_tool)
    return parser


TOOLS = {"data": _data_tools, "models": _model_tools}  # commands with commands of their own


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dreamset",
        description="Offline, dataset-first world models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dreamset {version('dreamset')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, stage in STAGES.items():
        command = commands.add_parser(name, help=stage.help, description=f"{stage.help[0].upper()}{stage.help[1:]}.")
        command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, e.g. preset=tiny")
        command.add_argument("--resolved", type=Path, help="run from this file, as dvc.yaml does, instead of overrides")
        command.set_defaults(run=_run_stage, stage=stage)
    for add in (_add_show, _add_adapt, _add_compare, _add_resolve, _add_export, _add_init):
        add(commands)
    commands.add_parser("data", help="look at, check, export, merge and split datasets: dreamset data --help")
    commands.add_parser("models", help="list, compare, export and import trained models: dreamset models --help")
    _add_ui(commands)
    return parser


def _add_show(commands: Commands) -> None:
    show = commands.add_parser(
        "show",
        help="print the settings that a stage will get",
        description="Print the settings that a stage will get, as yaml, exactly as `dreamset resolve` writes them.",
    )
    show.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    show.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, e.g. preset=tiny")
    show.add_argument("--origin", action="store_true", help="say behind each value which file or override set it")
    show.set_defaults(run=_run_show)


def _add_adapt(commands: Commands) -> None:
    adapt = commands.add_parser(
        "adapt",
        help="carry a world model over to another task: train-world-model from one that exists",
        description=f"train-world-model with {' '.join(ADAPT)}, unless other choices are given.",
    )
    adapt.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, e.g. dataset=pendulum_spin")
    adapt.set_defaults(run=_run_adapt)


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser(COMPARE.command, help=COMPARE.help)
    compare.add_argument("--resolved", type=Path, default=Path("resolved/compare.yaml"), help="default: %(default)s")
    compare.set_defaults(run=_run_stage, stage=COMPARE, overrides=[])


def _add_resolve(commands: Commands) -> None:
    resolve = commands.add_parser("resolve", help="compose the configuration of every stage from params.yaml")
    resolve.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: %(default)s")
    resolve.add_argument("--output", type=Path, default=Path("resolved"), help="default: %(default)s")
    resolve.add_argument(
        "--if-changed",
        action="store_true",
        help="compose, and look models up in the registry, only if params.yaml or a configuration has changed",
    )
    resolve.set_defaults(run=_run_resolve)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="write a learned policy as a folder that runs without this package")
    export.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides that choose the models")
    export.add_argument("--world-model", type=Path, help="folder of a saved world model; default: the chosen one's")
    export.add_argument("--policy", type=Path, help="folder of the policy learned in it; default: the chosen one's")
    export.add_argument("--output", type=Path, help="folder that is made or replaced; default: one in runs/export")
    export.add_argument("--mlflow", action="store_true", help="add an MLflow model that serves it over REST")
    export.set_defaults(run=_run_export)


def _add_init(commands: Commands) -> None:
    init = commands.add_parser("init", help="make a folder a project of your own, in which `dvc repro` runs")
    init.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: the working folder")
    init.set_defaults(run=_run_init)


def _add_ui(commands: Commands) -> None:
    ui = commands.add_parser("ui", help="open the MLflow UI on the embedded store")
    ui.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    ui.set_defaults(run=_run_ui)


def _run_stage(options: argparse.Namespace) -> None:
    from dreamset.pipeline.config.compose import compose
    from dreamset.pipeline.config.dependencies import with_code
    from dreamset.pipeline.stages import resolve

    stage: Stage = options.stage
    if options.resolved is not None:
        if options.overrides:
            raise UserError(f"--resolved takes no overrides, got {' '.join(options.overrides)}; change params.yaml")
        config = resolve.read_resolved(options.resolved, stage.settings)
    else:
        composed = compose(options.overrides)
        config = with_code(stage.name, stage(composed), composed)
    stage.run(config)


def _run_show(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools.show import show

    print(show(STAGES[options.stage], options.overrides, origin=options.origin), end="")  # noqa: T201


def _run_adapt(options: argparse.Namespace) -> None:
    stage = STAGES["train-world-model"]
    _run_stage(argparse.Namespace(stage=stage, resolved=None, overrides=[*ADAPT, *options.overrides]))


def _run_resolve(options: argparse.Namespace) -> None:
    from dreamset.pipeline.stages import resolve

    changes = resolve.run(options.params, options.output, if_changed=options.if_changed)
    print("\n".join([f"{options.output}: {'changed are' if changes else 'nothing has changed'}", *changes]))  # noqa: T201


def _run_init(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools import init

    print("\n".join(init.run(options.folder)))  # noqa: T201


def _run_export(options: argparse.Namespace) -> None:
    from dreamset.pipeline.config.compose import compose
    from dreamset.pipeline.export import program as export

    folders = {"world_model": options.world_model, "policy": options.policy, "output": options.output}
    output = export.run(compose(options.overrides), **folders, mlflow=options.mlflow)
    print(f"{output}: {output / 'README.md'} says how to use it")  # noqa: T201


def _run_model_tool(options: argparse.Namespace) -> None:
    print(options.answer(options))  # noqa: T201 - what the tools answer


def _run_ui(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tracking import delivery, reporting

    uri = os.environ.get("MLFLOW_TRACKING_URI") or delivery.embedded_uri()
    reporting.OUTBOX.mkdir(parents=True, exist_ok=True)
    if not reporting.delivering():
        delivery.deliver_all(reporting.OUTBOX)
        delivery.client_of(uri).search_experiments(max_results=1)  # two processes must not make a fresh store together
    # without background jobs the server is two processes instead of ten and is up in seconds
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(options.port)]
    address = f"http://127.0.0.1:{options.port}/?workflowType=machine_learning"
    print(f"MLflow UI: {address}", flush=True)  # noqa: T201
    os.execv(sys.executable, [*command, "--workers", "1", "--backend-store-uri", uri])  # noqa: S606
