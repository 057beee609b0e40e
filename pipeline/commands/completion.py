"""``dreamset completion``."""

import argparse

from dreamset.pipeline.commands.base import Commands, command

SHELLS = ("bash", "zsh", "fish")
NOTES = """\
to complete commands, groups and their names, such as `dataset=<TAB>`, in every new terminal:
  bash:  echo 'eval "$(dreamset completion bash)"' >> ~/.bashrc
  zsh:   echo 'eval "$(dreamset completion zsh)"' >> ~/.zshrc
  fish:  dreamset completion fish > ~/.config/fish/completions/dreamset.fish
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "completion", "print the code that lets a shell complete commands and settings", NOTES)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    parser.add_argument("--words", nargs="*", help=argparse.SUPPRESS)  # what the shells' code asks for
    parser.set_defaults(run=_run_completion)


def _run_completion(options: argparse.Namespace) -> None:
    from dreamset.pipeline.tools import completion

    if options.words is not None:
        print("\n".join(completion.candidates(options.words)))  # noqa: T201
    else:
        print(completion.CODE[options.shell])  # noqa: T201
