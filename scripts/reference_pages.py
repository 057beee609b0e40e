"""Pages of the documentation that are generated from the code: settings, metrics, commands and the Python interface.

A hook of MkDocs (see mkdocs.yml) adds them when the site is built, so they always describe the code beside them.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dreamset
from dreamset.pipeline import cli
from dreamset.pipeline.commands.tools import TOOLS
from dreamset.pipeline.config.settings import Settings
from dreamset.pipeline.report.metrics import METRICS, Metric

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
OUTSIDE = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+)([^)#\s]+)(#[^)\s]*)?\)")  # links from docs/ into the repository

SETTINGS = """\
# Settings

Every number and part of the pipeline is a setting. `configs/config.yaml` holds the defaults, `GROUP=NAME` selects a
file in a folder of `configs/`, and `KEY=VALUE` sets one value. Later ones win: defaults, `preset`, `size` and the two
trainings, then your own overrides. `dreamset show STAGE --origin` prints what a stage gets, and what set each value.

"""
METRIC_PAGE = """\
# Metrics

The names are those of `metrics.json`, of MLflow and of `dvc metrics show`. `K` stands for a number of steps and `NAME`
for the name of a part or quantity. Metrics in bold are those by which objectives are compared at first sight.

| metric | label | meaning | better |
|---|---|---|---|
"""
GENERAL = "general"  # the section of keys outside all sections
HYDRA = ("defaults", "hydra")  # sections of Hydra's own
COMMANDS = """\
# Commands

`dreamset COMMAND --help` prints the same text. Stages take Hydra overrides such as `preset=tiny` or `seed=1`.

"""
API = """\
# Python interface

All names on this page are attributes of `dreamset`, for example `dreamset.Store`. [From Python](../python.md) shows
them in use.

"""


def settings() -> str:
    """The page of the settings: the keys of the schema with their defaults, then every file of every group."""
    return SETTINGS + "\n".join([*_keys(), *_groups()])


def metrics() -> str:
    """The page of the metrics, from the words that tables and figures use."""
    rows = []
    for entry in METRICS:
        name = f"`{_readable(entry.pattern)}`"
        label = _label(entry) + (f" ({entry.unit})" if entry.unit else "")
        better = "" if entry.better == "neither" else entry.better
        rows.append(f"| {f'**{name}**' if entry.headline else name} | {label} | {entry.meaning} | {better} |")
    return METRIC_PAGE + "\n".join(rows) + "\n"


def commands() -> str:
    """The page of the commands, from the parser of the command line."""
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"  # the width of argparse's help
    try:
        pages = [_command(parser) for parser in _parsers(cli.Parser())]
        pages += [_command(parser) for tool in TOOLS.values() for parser in _parsers(tool())]
    finally:
        os.environ.pop("COLUMNS")
        os.environ |= {} if columns is None else {"COLUMNS": columns}
    return COMMANDS + "\n".join(pages)


def api() -> str:
    """The page of the public names; mkdocstrings fills in their docstrings."""
    names = sorted(dreamset.PUBLIC.items(), key=lambda item: item[0].lower())
    return API + "\n".join(f"## `{name}`\n\n::: {module}.{name}\n" for name, module in names)


PAGES = {
    "reference/settings.md": settings,
    "reference/metrics.md": metrics,
    "reference/commands.md": commands,
    "reference/api.md": api,
}


def _keys() -> Iterator[str]:
    schema = Settings.model_json_schema()
    sections, introductions = _sections((CONFIGS / "config.yaml").read_text(encoding="utf-8"))
    yield "## Keys\n"
    for section, rows in sections.items():
        yield f"### {section.capitalize() if section == GENERAL else f'`{section}`'}\n"
        if introductions[section]:
            yield f"{_sentence(introductions[section])}\n"
        yield "| key | default | allowed | meaning |\n|---|---|---|---|"
        for key, default, comment in rows:
            allowed = _allowed(schema, key.split("."))
            yield f"| `{key}` | {f'`{default}`' if default else ''} | {allowed} | {_cell(comment)} |"
        yield ""


def _sections(text: str) -> tuple[dict[str, list[tuple[str, str, str]]], dict[str, str]]:
    """Rows (key, default, comment) by top-level key of ``configs/config.yaml``, and the comment above each of them."""
    sections: dict[str, list[tuple[str, str, str]]] = {}
    introductions: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        entry = re.match(r"( *)(\w+):(?: &\w+)? *(.*?)(?:(?:^|(?<= )) *# (.*))?$", line)
        if entry is None:
            above = [*above, line.removeprefix("# ")] if line.startswith("# ") else []
            if path and line.lstrip().startswith("{"):  # the value of a key that is broken over two lines
                rows = sections[path[0][1]]
                rows[-1] = (rows[-1][0], line.strip(), rows[-1][2])
            continue
        indent, key, value, comment = len(entry[1]), entry[2], entry[3], entry[4] or ""
        path = [*(outer for outer in path if outer[0] < indent), (indent, key)]
        top = GENERAL if indent == 0 and value else path[0][1]
        if top not in sections:
            sections[top], introductions[top] = [], " ".join(above) or ("" if value else comment)
        if indent > 0 or value:
            sections[top].append((".".join(name for _, name in path), value, comment))
        above = []
    return {top: rows for top, rows in sections.items() if top not in HYDRA}, introductions


def _allowed(schema: Mapping[str, Any], path: list[str]) -> str:
    """What the schema allows for a key, in words; empty for the arguments of a part."""
    node: Mapping[str, Any] = schema
    for name in path:
        node = next((_resolved(schema, option) for option in _options(schema, node) if name in _properties(option)), {})
        node = node.get("properties", {}).get(name, {})
    kinds = [_kind(option) for option in _options(schema, node)]
    return " or ".join(dict.fromkeys(kind for kind in kinds if kind))


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref")
    return node if reference is None else schema["$defs"][reference.rpartition("/")[2]]


def _options(schema: Mapping[str, Any], node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    node = _resolved(schema, node)
    return [_resolved(schema, option) for option in node.get("anyOf", node.get("oneOf", [node]))]


def _properties(node: Mapping[str, Any]) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = node.get("properties", {})
    return properties


def _kind(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    names = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    names |= {"null": "null", "array": "list", "object": "a part, or a mapping"}
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{words} {node[name]:g}" for name, words in bounds.items() if name in node and node[name] < 2**62]
    return " ".join([names.get(node.get("type", ""), ""), ", ".join(limits)]).strip()


def _groups() -> Iterator[str]:
    yield "## Groups\n"
    folders = sorted({path.parent.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml")} - {Path()})
    for folder in folders:
        yield f"### `{folder.as_posix()}=`\n"
        for path in sorted((CONFIGS / folder).glob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            comment = re.match(r"(?:#.*\n)*", text)
            heading = comment[0] if comment else ""
            words = " ".join(line.removeprefix("#").strip() for line in heading.splitlines() if "@package" not in line)
            yield f"#### `{path.stem}`\n\n{_sentence(words)}\n"
            yield f"```yaml\n{text[len(heading) :].strip()}\n```\n"


def _cell(text: str) -> str:
    """A comment in a cell of a table."""
    return text.strip().replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    """A comment as a paragraph."""
    text = _cell(text)
    return text[:1].upper() + text[1:]


PLACEHOLDERS = {  # group of a metric's pattern -> what stands for it
    r"(\..+)?": "",
    r"(_low|_high)?": "",
    r"(\d+)": "K",
    r"(low|high)": "{low,high}",
    r"(q[1-4])": "q1..q4",
    r"(\w+)": "NAME",
    r"(.+)": "NAME",
}


def _readable(pattern: str) -> str:
    """A metric's pattern as a name with placeholders."""
    for group, word in PLACEHOLDERS.items():
        pattern = pattern.replace(group, word)
    return pattern.replace("\\.", ".")


def _label(entry: Metric) -> str:
    """A metric's label with placeholders."""
    label = entry.label
    for number, group in enumerate(re.findall(r"\([^)]*\)\??", entry.pattern), start=1):
        label = label.replace(f"\\{number}", PLACEHOLDERS[group])
    return label.replace("{low,high}", "low or high").strip()


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its subcommands, but not of the groups that have parsers of their own."""
    yield parser
    for action in parser._subparsers._group_actions if parser._subparsers else []:
        for name, inner in (action.choices or {}).items():  # type: ignore[union-attr]
            if name not in TOOLS:
                yield from _parsers(inner)


def _command(parser: argparse.ArgumentParser) -> str:
    return f"## {parser.prog}\n\n```text\n{parser.format_help().strip()}\n```\n"


def on_files(files: Any, *, config: Any) -> Any:
    """Adds the generated pages, and the figures of the benchmarks, to the files of the site."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    for path in sorted((ROOT / "benchmarks").glob("*/*.png")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turns links out of docs/ into links to copied figures, or else into the path in the repository."""
    up = page.file.src_uri.count("/")

    def target(link: re.Match[str]) -> str:
        text, steps, path = link[1], link[2], link[3]
        if steps.count("../") <= up:
            return link[0]  # within docs/
        if path.endswith(".png"):
            return f"[{text}]({'../' * up}{path})"
        return f"{text} (`{path}` in the repository)"

    return OUTSIDE.sub(target, markdown)
