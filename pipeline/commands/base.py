"""Adding a command to the parser."""

import argparse
from typing import TypeAlias

from dreamset.pipeline.arguments import ArgumentParser

Commands: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"


def command(commands: Commands, name: str, text: str) -> ArgumentParser:
    """Adds a command. Its help page starts with the text that the list of commands shows."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def take_overrides(parser: ArgumentParser, text: str = "Hydra overrides, e.g. preset=tiny or seed=1") -> None:
    """Lets a command take Hydra overrides."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)


def take_quiet(parser: ArgumentParser) -> None:
    """Lets a command run without announcements and progress."""
    parser.add_argument(
        "--quiet", action="store_true", help="print results and warnings only, as with DREAMSET_QUIET=1"
    )
