"""Describes a mistake in the configuration: the key, the finding, the allowed values and the nearest known key."""

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

UNKNOWN = "extra_forbidden"  # pydantic's type of error for an unknown key
_PLAIN = re.compile(
    r"(?!(?:null|true|false|nan|inf)$)(?:[a-z_/]|\.\.?/)[\w./:-]*", re.IGNORECASE | re.ASCII
)  # unquoted
KEY = re.compile(r"[+~]{0,2}\w[\w./@:-]*")
ALLOWED: dict[str, Callable[[Mapping[str, Any]], str]] = {  # pydantic's type of error -> the allowed values, in words
    "int_type": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "float_type": lambda _: "a number",
    "bool_type": lambda _: "true or false",
    "string_type": lambda _: "text",
    "list_type": lambda _: "a list",
    "tuple_type": lambda _: "a list",
    "dict_type": lambda _: "a mapping",
    "model_type": lambda _: "a mapping",
    "none_required": lambda _: "null",
    "finite_number": lambda _: "a finite number",
    "greater_than_equal": lambda limit: f"{_number(limit['ge'])} or more",
    "greater_than": lambda limit: f"more than {_number(limit['gt'])}",
    "less_than_equal": lambda limit: f"{_number(limit['le'])} or less",
    "less_than": lambda limit: f"less than {_number(limit['lt'])}",
    "literal_error": lambda limit: str(limit["expected"]),
    "missing": lambda _: "a list with more entries",
    "too_long": lambda limit: f"a list of {limit['max_length']} or fewer entries",
    "too_short": lambda limit: f"a list of {limit['min_length']} or more entries",
    "string_too_short": lambda _: "a non-empty text",
    "callable_type": lambda _: "a part: a mapping with the class or function as _target_",
    "value_error": lambda limit: str(limit["error"]),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong setting."""

    key: str
    finding: str  # continues the key: "is 0; allowed: 1 or more"
    of_value: bool = False  # whether the value is wrong, so that the key from which it comes has to change


def of_error(error: ErrorDetails, key: str, known: Iterable[str]) -> Mistake:
    """Pydantic's error at ``key``, in the form of all other messages."""
    if error["type"] == UNKNOWN:
        return Mistake(key, f"is unknown{hint(key, known)}")
    if error["type"] == "missing":
        return Mistake(key, "is missing and has no default; set it")
    if error["type"] == "value_error" and isinstance(error["input"], Mapping):
        return Mistake(key, f"needs {allowed(error)}")
    return Mistake(key, f"is {yaml_text(error['input'])}; allowed: {allowed(error)}", of_value=True)


def allowed(error: ErrorDetails) -> str:
    """The values that the schema accepts, in words."""
    words = ALLOWED.get(error["type"])
    return words(error.get("ctx", {})) if words else error["msg"].removeprefix("Input should be ")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def yaml_text(value: object) -> str:
    """A value as in yaml, shortened if it is long."""
    text = {None: "null", True: "true", False: "false"}[value] if value is None or value in (True, False) else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
    text = text or repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def hint(key: str, known: Iterable[str]) -> str:
    """A hint at the known key that is most similar to ``key``; if none is similar, the keys of its section."""
    keys = list(known)
    section, _, name = key.rpartition(".")
    beside = {known.rpartition(".")[2]: known for known in keys if known.rpartition(".")[0] == section}
    close = [beside[name] for name in difflib.get_close_matches(name, beside, n=1)]
    if not beside:
        close = difflib.get_close_matches(key, keys, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; allowed: {', '.join(sorted(beside))}" if beside else ""


def wrong_name(group: str, name: str, names: Iterable[str]) -> str:
    """A name that a group does not have, with those that it has and the nearest one."""
    allowed_names = list(names)
    close = nearest(name, allowed_names)
    suggestion = f"; did you mean {group}={close}?" if close else f"; see `dreamset list {group}`"
    return f"{group} is {name!r}; allowed: {', '.join(allowed_names)}{suggestion}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: one that contains the given one as a whole, or is spelt like it."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1)
    beginning = [other for other in known if len(name) > 1 and other.startswith(name)]
    containing = [other for other in known if len(name) > 2 and name in other]
    return next(iter([*beginning[:1], *close, *containing]), None)


def dotted_keys(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """All dotted keys below ``node``, including those of sections."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        yield key
        if isinstance(value, Mapping):
            yield from dotted_keys(value, f"{key}.")


def dotted_values(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no section, with its dotted key; an empty section counts as a value."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from dotted_values(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def override_key(override: str) -> str:
    """The key or group that an override in Hydra's syntax sets."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def wrong_grammar(override: str) -> str:
    """What to write instead of an override that does not follow Hydra's grammar."""
    key, equals, value = override.partition("=")
    if not equals or not KEY.fullmatch(key):
        return f"{override!r} is not KEY=VALUE; write a key, an equals sign and a value, such as seed=1"
    if value.startswith(("[", "{")):
        return (
            f"{override}: the list or mapping is not complete; write it in quotes as in yaml: '{key}=[a, b]' or "
            f"'{key}={{a: b}}'"
        )
    return f"{override}: some characters of the value have a meaning of their own; quote it twice: {quoted(override)}"


def quoted(override: str) -> str:
    """The override with its value in quotes for Hydra, and as a whole in quotes for the shell."""
    key, _, value = override.partition("=")
    return shlex.quote(f"{key}={quoted_value(value)}")


def quoted_value(value: str) -> str:
    """A text in Hydra's quotes. Hydra takes a backslash literally, except before a quote."""
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), value)
    return f'"{escaped}"'


def override_text(key: str, value: Any) -> str:
    """``key=value`` as a person types it in a shell: in quotes only where Hydra or the shell needs them."""
    return shlex.quote(f"{key}={literal(value)}")


def literal(value: Any) -> str:
    """A plain value in Hydra's syntax, whose keys of mappings have no quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {literal(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else quoted_value(value)
    return yaml_text(value)


def below(key: str, section: str) -> bool:
    """Whether ``key`` is ``section`` or a key in it."""
    return f"{key}.".startswith(f"{section}.") or key.startswith(f"{section}[")
