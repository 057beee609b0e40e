"""What several commands share: how they are added to the parser, and the settings of a stage that is run by hand."""

import argparse
from collections.abc import Sequence
from typing import TypeAlias

from dreamset.pipeline.arguments import ArgumentParser
from dreamset.pipeline.stages.table import Stage, StageConfig
from dreamset.pipeline.tracking.labels import Labels

Commands: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"


def command(commands: Commands, name: str, text: str, epilog: str | None = None) -> ArgumentParser:
    """Adds a command.

    Args:
        commands: of ``dreamset``.
        name: of the command.
        text: of the list of commands; the help page of the command starts with it.
        epilog: examples and notes at the end of its help page, as they are.
    """
    return commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def take_overrides(parser: ArgumentParser, text: str = "Hydra overrides, e.g. preset=tiny or seed=1") -> None:
    """Lets a command take Hydra overrides."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)


def take_quiet(parser: ArgumentParser) -> None:
    """Lets a command run without announcements and progress."""
    parser.add_argument(
        "--quiet", action="store_true", help="print results and warnings only, as with DREAMSET_QUIET=1"
    )


def settings_by_hand(stage: Stage, overrides: Sequence[str], *, told: bool = True) -> tuple[StageConfig, Labels]:
    """The plain settings of a stage with overrides, and the choices behind them.

    Args:
        stage: of the table.
        overrides: in Hydra's syntax.
        told: whether lines say which folders differ from the usual ones, and what does not match.

    Raises:
        UserError: if an override is wrong.
    """
    from dreamset.pipeline.config.compose import composed, require_effect, with_drawn_seed  # loads Hydra
    from dreamset.pipeline.config.dependencies import with_code
    from dreamset.pipeline.stages import manual

    composition = composed(with_drawn_seed(overrides))
    require_effect(composition.without_effect)
    return with_code(stage.name, manual.settings(stage, composition, told=told), composition.config), composition.labels
