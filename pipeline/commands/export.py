"""``dreamset export``."""

import argparse
from pathlib import Path

from dreamset.pipeline.commands.base import Commands, command, take_overrides
from dreamset.pipeline.stages.table import evaluate

EXAMPLES = """\
examples:
  dreamset export objective=reconstruction --output my_policy
  dreamset export --mlflow --output my_policy      to serve it over REST
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    export = command(commands, "export", "write a trained policy as a program that runs without this package", EXAMPLES)
    take_overrides(export, "Hydra overrides that select the models, e.g. objective=contrastive")
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


def _run_export(options: argparse.Namespace) -> None:
    from dreamset.pipeline.config.compose import composed, require_effect
    from dreamset.pipeline.export import program as export
    from dreamset.pipeline.stages import manual

    folders = {"world_model": options.world_model, "policy": options.policy, "output": options.output}
    composition = composed(options.overrides)
    require_effect(composition.without_effect)
    models = manual.inputs(evaluate, composition)
    output = export.run(composition.config, **folders, mlflow=options.mlflow, models=models)
    print(f"{output}: exported; {output / 'README.md'} has instructions")  # noqa: T201
