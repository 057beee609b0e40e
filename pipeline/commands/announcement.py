"""What a stage says at its start and its end: its place in the pipeline, its choices, inputs, outputs and duration.

All of it goes to the standard error stream, so that the output of a command holds results only.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dreamset.pipeline.config.source_paths import source_paths
from dreamset.pipeline.progress import placed, quiet
from dreamset.pipeline.report.words import duration
from dreamset.pipeline.stages.table import COMPARE, SHARED, Stage
from dreamset.pipeline.tracking.labels import Labels

INPUTS = (
    "store",
    "world_model",
    "policy",
    "runs",
    "dataset_card",
    "source_path",
)  # settings that are paths of what a stage reads
OUTPUTS = ("output", "card")
CHOICES = ("dataset", "preset", "objective", "world_model", "behavior", "adaptation")
CHOICES_OF_ALL = ("dataset", "preset")  # of stages that do not belong to one objective


@contextmanager
def announced(
    stage: Stage, settings: Mapping[str, Any], labels: Labels, place: tuple[int, int] | None
) -> Iterator[None]:
    """Announces a stage before the block, and reports its duration after it. A failed block is not reported.

    Args:
        stage: the stage that the block runs.
        settings: its plain settings.
        labels: the choices behind them.
        place: its number and the number of all stages; None for a single stage.
    """
    if quiet():
        yield
        return
    number = "" if place is None else f"[{place[0]}/{place[1]}] "
    reads, writes = ", ".join(inputs_of(settings)), ", ".join(outputs_of(settings))
    interactive = sys.stderr.isatty()
    (_show if interactive else _log)(f"{number}{stage.command}", _choices(stage, settings, labels), reads, writes)
    began = time.monotonic()
    with placed(number):
        yield
    end = f"{number}{stage.command}: finished in {duration(time.monotonic() - began)}; results: {writes}"
    print(end, file=sys.stderr, flush=True)  # noqa: T201 - of the command


def _log(title: str, choices: str, reads: str, writes: str) -> None:
    print(f"{title}: {choices}; reads {reads or 'nothing'}, writes {writes}", file=sys.stderr, flush=True)  # noqa: T201


def _show(title: str, choices: str, reads: str, writes: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, text in (("settings", choices), ("reads", reads), ("writes", writes)):
        if text:
            table.add_row(f"  {name}", text)
    console.rule(f"[bold]{title.replace('[', chr(92) + '[')}[/]", align="left", style="blue")
    console.print(table)


def _choices(stage: Stage, settings: Mapping[str, Any], labels: Labels) -> str:
    shared = stage.name in SHARED or stage is COMPARE
    names = [labels.choices[group] for group in (CHOICES_OF_ALL if shared else CHOICES) if group in labels.choices]
    names = list(dict.fromkeys(names)) or [settings["dataset"]]
    seed = [f"seed {settings['seed']}"] if "seed" in settings else []
    others = [text for text in labels.overrides if not text.startswith("seed=")]
    return ", ".join([*names, *seed, *others])


def inputs_of(settings: Mapping[str, Any]) -> list[str]:
    """The paths that a stage reads."""
    source = settings.get("source")
    recorded = source_paths(source) if isinstance(source, Mapping) else []
    paths = [*recorded, *_paths(settings, INPUTS)]
    return [path for path in paths if not path.startswith(settings["output"])]  # collect records what it names


def outputs_of(settings: Mapping[str, Any]) -> list[str]:
    """The paths that a stage writes."""
    return _paths(settings, OUTPUTS)


def _paths(settings: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    values = [settings[key] for key in keys if settings.get(key) is not None]
    named = [value if isinstance(value, list) else [value] for value in values]
    return [path for paths in named for path in paths if isinstance(path, str)]
