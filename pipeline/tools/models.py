"""``dreamset models``: tools for the models in the registry. Each tool returns the text to print."""

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.arguments import ArgumentParser
from dreamset.pipeline.artifacts.description import read_description
from dreamset.pipeline.config.mistakes import dotted_values
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.registry.catalog import Version
from dreamset.pipeline.registry.retrieval import MADE_BY, Pinned, Reference, figures_of, local_folder, pin, reading
from dreamset.pipeline.report.tables import columns

REFERENCE = "NAME, NAME@champion, NAME@latest, NAME/3, the id of an MLflow run, or a folder with model.json"
DESCRIPTION = """\
List, show, compare, export and import the trained models in the registry. The registry is the MLflow server at
MLFLOW_TRACKING_URI, or tracking/mlflow.db if this environment variable is not set.

NAME is <dataset>.world_model or <dataset>.policy. NAME@champion, NAME@latest and NAME/3 refer to one version. NAME
alone refers to the champion, or to the latest version if there is no champion. The champion among policies has the
highest evaluated return. The champion among world models is the one whose policy has the highest return; before any
policy is evaluated, it is the one with the lowest open-loop reward error over the first 15 steps.
`dreamset ui` opens MLflow's pages, where aliases can also be set by hand.
"""


def parser() -> ArgumentParser:
    """The parser of the tools and their options."""
    parser = ArgumentParser(
        prog="dreamset models", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tools = parser.add_subparsers(title="tools", metavar="TOOL", required=True)

    _tool(tools, "list", "list the registered models with their versions and champions", _list)

    show = _tool(
        tools, "show", "show the versions of a model, and the settings, figures and lineage of one version", _show
    )
    show.add_argument("name", metavar="NAME", help="NAME, NAME@alias or NAME/version")

    compare = _tool(tools, "compare", "compare the figures and the different settings of two models", _compare)
    compare.add_argument("first", metavar="NAME_A", help=REFERENCE)
    compare.add_argument("second", metavar="NAME_B", help="as NAME_A")

    export = _tool(tools, "export", "write the two files of a model and its figures into a new folder", _export)
    export.add_argument("name", metavar="NAME", help=REFERENCE)
    export.add_argument("path", type=Path, metavar="PATH", help="new folder")

    importing = _tool(tools, "import", "check the model in a folder, and register it", _import)
    importing.add_argument("path", type=Path, metavar="PATH", help="folder with model.json and model.safetensors")
    importing.add_argument(
        "name", metavar="NAME", help="registered model that gets the new version; it is created if it does not exist"
    )
    return parser


def _tool(
    tools: "argparse._SubParsersAction[ArgumentParser]",
    name: str,
    text: str,
    answer: Callable[[argparse.Namespace], str],
) -> ArgumentParser:
    parser = tools.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(answer=answer)
    return parser


def _list(options: argparse.Namespace) -> str:  # noqa: ARG001 - all tools take options
    with reading() as client:
        models = [versions for name in catalog.families(client) if (versions := catalog.versions(client, name))]
    if not models:
        return "No model is registered yet: train one, or import one with `dreamset models import PATH NAME`."
    rows = [(v[0].name, str(len(v)), str(v[-1].number), *_champion(v)) for v in models]
    return columns(("model", "versions", "latest", "champion", "ranked by"), rows)


def _champion(versions: list[Version]) -> tuple[str, str]:
    champions = [version for version in versions if catalog.CHAMPION in version.aliases]
    return (str(champions[0].number), champions[0].score) if champions else ("-", "-")


def _show(options: argparse.Namespace) -> str:
    reference = Reference.parse(options.name)
    if reference.name is None:
        raise UserError(f"{options.name!r} is not a registered model; `dreamset models list` lists them")
    with reading() as client:
        versions = catalog.versions(client, reference.name)
        version = catalog.version(client, reference.name, number=reference.version, alias=reference.alias)
        origins = catalog.origins(client, version)
        figures, settings = catalog.figures(client, version), catalog.settings(client, version)
    head = ("version", "aliases", "made (UTC)", "generation", "objective", "seed", "ranked by")
    rows = [_row(entry, latest=entry is versions[-1]) for entry in versions]
    described = settings | {name: value for name, value in version.tags.items() if name not in figures}
    tables = (
        columns(head, rows),
        columns((version.reference, f"run {version.run}"), sorted(described.items())),
        columns(("figure", "value"), [(name, _text(value)) for name, value in sorted(figures.items())]),
        columns(("came from", "", "run", "digest"), list(_lineage(version, origins))),
    )
    return "\n\n".join(tables)


def _row(version: Version, *, latest: bool) -> tuple[str, ...]:
    aliases = ", ".join([*version.aliases, *([catalog.LATEST] if latest else [])])
    made = datetime.fromtimestamp(version.created / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    tags = (version.tags.get(name, "-") for name in ("generation", "objective", "seed"))
    return (str(version.number), aliases, made, *tags, version.score)


def _lineage(version: Version, origins: list[catalog.Origin]) -> Iterator[tuple[str, str, str, str]]:
    """The models from the latest back to the first one, each followed by its dataset."""
    yield from _data(version)
    for origin in origins:
        earlier = origin.version
        place = ("not registered here", "-") if earlier is None else (earlier.reference, earlier.run)
        yield (origin.role, *place, origin.digest)
        yield from _data(earlier)


def _data(version: Version | None) -> Iterator[tuple[str, str, str, str]]:
    if version is not None:
        yield "trained on", version.tags.get("dataset", "-"), "-", version.tags.get("dataset_digest", "-")


def _compare(options: argparse.Namespace) -> str:
    sides = [pin(Reference.parse(text)) for text in (options.first, options.second)]
    figures = [figures_of(side) for side in sides]
    settings = [_settings(side) for side in sides]
    differing = [name for name in sorted({*settings[0], *settings[1]}) if len({s.get(name, "-") for s in settings}) > 1]
    rows = [("digest", *(side.digest for side in sides))]
    rows += [(name, *(_text(side.get(name)) for side in figures)) for name in sorted({*figures[0], *figures[1]})]
    rows += [(name, *(side.get(name, "-") for side in settings)) for name in differing]
    return columns(("", *(side.label for side in sides)), rows)


def _settings(side: Pinned) -> dict[str, str]:
    """Every value of ``model.json`` by its path."""
    description = read_description(local_folder(side), made_by=MADE_BY)
    return {path: _text(value) for path, value in dotted_values(description.to_json())}


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _export(options: argparse.Namespace) -> str:
    from dreamset.pipeline.registry.exchange import export_model  # loads PyTorch and the learners

    pinned = export_model(Reference.parse(options.name), options.path)
    return f"exported {pinned.label} to {options.path} (digest {pinned.digest})"


def _import(options: argparse.Namespace) -> str:
    from dreamset.pipeline.registry.exchange import import_model  # loads PyTorch and the learners

    return f"{options.path} is registered as {import_model(options.path, options.name).reference}"
