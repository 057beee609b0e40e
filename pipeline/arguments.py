"""The parser of the command line: a mistake is one line that states what to write instead."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from dreamset.core.errors import UserError
from dreamset.pipeline.config.mistakes import nearest


class ArgumentParser(argparse.ArgumentParser):
    """Raises a ``UserError`` instead of printing its usage. Parsers of subcommands do the same."""

    notes: Callable[[], str] | None = None  # makes the end of the help page when it is asked for

    def format_help(self) -> str:
        """The help page."""
        if self.notes is not None:
            self.epilog = self.notes()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raises a ``UserError`` with argparse's message in plain words.

        Raises:
            UserError: always.
        """
        raise UserError(f"{in_words(message)}; see `{self.prog} --help`")


def in_words(message: str) -> str:
    """A message of argparse in plain words."""
    for pattern, words in _MESSAGES.items():
        match = re.fullmatch(pattern, message, re.DOTALL)
        if match:
            return words(match)
    return message


def unknown(arguments: Sequence[str]) -> str:
    """The message for arguments that no parser takes."""
    setting = next((text.lstrip("-") for text in arguments if text.startswith("--") and "=" in text), None)
    hint = f"; settings are written without dashes: {setting}" if setting else ""
    return f"{' '.join(arguments)} is unknown{hint}"


def _choice(match: re.Match[str]) -> str:
    name, value, allowed = match[1], match[2], re.findall(r"'([^']*)'", match[3]) or match[3].split(", ")
    close = nearest(value, allowed)
    return f"{name} is {value!r}; allowed: {', '.join(allowed)}" + (f"; did you mean {close}?" if close else "")


def _missing(match: re.Match[str]) -> str:
    names = [name for name in match[1].split(", ") if name != "KEY=VALUE"]  # overrides may be absent
    return f"{' and '.join(names or [match[1]])} {'is' if len(names) < 2 else 'are'} missing"


_KINDS = {"int": "a whole number", "float": "a number", "Path": "a path"}
_MESSAGES: dict[str, Callable[[re.Match[str]], str]] = {
    r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)": _choice,
    r"the following arguments are required: (.*)": _missing,
    r"unrecognized arguments: (.*)": lambda match: unknown(match[1].split()),
    r"argument (\S+): expected (?:one|at least one) argument": lambda match: f"{match[1]} needs a value",
    r"argument (\S+): invalid (\S+) value: (.*)": lambda match: (
        f"{match[1]} is {match[3]}; allowed: {_KINDS.get(match[2], match[2])}"
    ),
}
