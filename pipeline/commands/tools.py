"""The commands with tools of their own: ``dreamset data`` and ``dreamset models``."""

import argparse

from dreamset.pipeline.arguments import ArgumentParser
from dreamset.pipeline.commands.base import Commands


def add(commands: Commands) -> None:
    """Adds the groups to the list of commands. Their parsers are loaded when they are used."""
    commands.add_parser(
        "data", help="inspect, verify, score, export, merge and split datasets; see `dreamset data --help`"
    )
    commands.add_parser(
        "models", help="list, show, compare, export and import trained models; see `dreamset models --help`"
    )


def _data_tools() -> ArgumentParser:
    from dreamset.pipeline.tools import data as data_tools  # loads the libraries of all formats

    return data_tools.parser()


def _model_tools() -> ArgumentParser:
    from dreamset.pipeline.tools import models as model_tools

    parser = model_tools.parser()
    parser.set_defaults(run=_run_model_tool)
    return parser


TOOLS = {"data": _data_tools, "models": _model_tools}  # commands with subcommands


def _run_model_tool(options: argparse.Namespace) -> None:
    print(options.answer(options))  # noqa: T201 - output of the tools
