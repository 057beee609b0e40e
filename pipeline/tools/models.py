"""``dreamset models``: the registry's models, for a person at a terminal. Each tool returns what is to be shown."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.artifacts.saved_models import read_description
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.registry.catalog import Version
from dreamset.pipeline.registry.retrieval import MADE_BY, Pinned, Reference, connection, figures_of, local_folder, pin
from dreamset.pipeline.report.tables import columns

REFERENCE = "NAME, NAME@champion, NAME@latest, NAME/3, the id of a run, or a folder with model.json"
DESCRIPTION = """\
The registry's models. MLFLOW_TRACKING_URI says where it is; without it, in tracking/mlflow.db.

NAME is <dataset>.world_model or <dataset>.policy, with @champion, @latest or /3 for one version. Without these it is
the champion or, where there is none, the latest. A world model is champion by its open-loop reward error at the longest
horizon, a policy by its evaluated return (IQM); aliases can also be set in MLflow's pages: dreamset ui.
"""


def parser() -> argparse.ArgumentParser:
    """The tools and their options."""
    parser = argparse.ArgumentParser(
        prog="dreamset models", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tools = parser.add_subparsers(title="tools", metavar="TOOL", required=True)

    _tool(tools, "list", "every registered model: versions, champion, what it is ranked by", _list)

    show = _tool(tools, "show", "the versions of a model, and one of them with all that it came from", _show)
    show.add_argument("name", metavar="NAME", help="NAME, NAME@alias or NAME/version")

    compare = _tool(tools, "compare", "two models beside each other: figures, and every setting that differs", _compare)
    compare.add_argument("first", metavar="NAME_A", help=REFERENCE)
    compare.add_argument("second", metavar="NAME_B", help="the same")

    export = _tool(tools, "export", "write a model's two files and its figures into a new folder", _export)
    export.add_argument("name", metavar="NAME", help=REFERENCE)
    export.add_argument("path", type=Path, metavar="PATH", help="folder that is made; it must not exist")

    importing = _tool(tools, "import", "check the model in a folder and register it", _import)
    importing.add_argument("path", type=Path, metavar="PATH", help="folder with model.json and model.safetensors")
    importing.add_argument("name", metavar="NAME", help="registered model that gets the version; made if it is new")
    return parser


def _tool(
    tools: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    answer: Callable[[argparse.Namespace], str],
) -> argparse.ArgumentParser:
    parser = tools.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(answer=answer)
    return parser


def _list(options: argparse.Namespace) -> str:  # noqa: ARG001 - tools take options alike
    with connection() as client:
        held = [versions for name in catalog.families(client) if (versions := catalog.versions(client, name))]
    if not held:
        return "No model is registered yet: train one, or `dreamset models import PATH NAME`."
    rows = [(v[0].name, str(len(v)), str(v[-1].number), *_champion(v)) for v in held]
    return columns(("model", "versions", "latest", "champion", "ranked by"), rows)


def _champion(versions: list[Version]) -> tuple[str, str]:
    crowned = [version for version in versions if catalog.CHAMPION in version.aliases]
    return (str(crowned[0].number), crowned[0].score) if crowned else ("-", "-")


def _show(options: argparse.Namespace) -> str:
    reference = Reference.parse(options.name)
    if reference.name is None:
        raise UserError(f"{options.name!r} is no registered model; `dreamset models list` names them")
    with connection() as client:
        versions = catalog.versions(client, reference.name)
        chosen = catalog.version(client, reference.name, number=reference.version, alias=reference.alias)
        origins = catalog.origins(client, chosen)
    head = ("version", "aliases", "made (UTC)", "generation", "objective", "seed", "ranked by")
    rows = [_row(version, latest=version is versions[-1]) for version in versions]
    tables = (
        columns(head, rows),
        columns((chosen.reference, f"run {chosen.run}"), sorted(chosen.tags.items())),
        columns(("came from", "", "run", "digest"), list(_steps(chosen, origins))),
    )
    return "\n\n".join(tables)


def _row(version: Version, *, latest: bool) -> tuple[str, ...]:
    aliases = ", ".join([*version.aliases, *([catalog.LATEST] if latest else [])])
    made = datetime.fromtimestamp(version.created / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    told = (version.tags.get(name, "-") for name in ("generation", "objective", "seed"))
    return (str(version.number), aliases, made, *told, version.score)


def _steps(chosen: Version, origins: list[catalog.Origin]) -> Iterator[tuple[str, str, str, str]]:
    """From a model back to the first one that was trained, each followed by its data."""
    yield from _data(chosen)
    for origin in origins:
        known = origin.version
        place = ("not registered here", "-") if known is None else (known.reference, known.run)
        yield (origin.role, *place, origin.digest)
        yield from _data(known)


def _data(version: Version | None) -> Iterator[tuple[str, str, str, str]]:
    if version is not None:
        yield "trained on", version.tags.get("dataset", "-"), "-", version.tags.get("dataset_digest", "-")


def _compare(options: argparse.Namespace) -> str:
    sides = [pin(Reference.parse(text)) for text in (options.first, options.second)]
    figures = [figures_of(side) for side in sides]
    settings = [_settings(side) for side in sides]
    differing = [name for name in sorted({*settings[0], *settings[1]}) if len({s.get(name, "-") for s in settings}) > 1]
    rows = [("digest", *(side.digest for side in sides))]
    rows += [(name, *(_shown(side.get(name)) for side in figures)) for name in sorted({*figures[0], *figures[1]})]
    rows += [(name, *(side.get(name, "-") for side in settings)) for name in differing]
    return columns(("", *(side.label for side in sides)), rows)


def _settings(side: Pinned) -> dict[str, str]:
    """Every value of ``model.json`` by its path."""
    description = read_description(local_folder(side), made_by=MADE_BY)
    return dict(_leaves(description.to_json(), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, _shown(value)


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _export(options: argparse.Namespace) -> str:
    from dreamset.pipeline.registry.exchange import export_model  # loads what the stage evaluate loads

    pinned = export_model(Reference.parse(options.name), options.path)
    return f"{options.path}: {pinned.label}, digest {pinned.digest}"


def _import(options: argparse.Namespace) -> str:
    from dreamset.pipeline.registry.exchange import import_model  # loads what the stage evaluate loads

    return f"{options.path}: {import_model(options.path, options.name).reference}"
