"""A mistake in the configuration, in words: which key, what was found, what is allowed, and which key was meant."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

UNKNOWN = "extra_forbidden"  # the schema's word for a key that nothing reads
WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {  # kind of error -> what is allowed
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
    "greater_than_equal": lambda limit: f"{limit['ge']:g} or more",
    "greater_than": lambda limit: f"more than {limit['gt']:g}",
    "less_than_equal": lambda limit: f"{limit['le']:g} or less",
    "less_than": lambda limit: f"less than {limit['lt']:g}",
    "literal_error": lambda limit: str(limit["expected"]),
    "too_short": lambda limit: f"at least {limit['min_length']} of them",
    "string_too_short": lambda _: "a text that is not empty",
    "callable_type": lambda _: "a part, with the class or function as _target_",
    "value_error": lambda limit: str(limit["error"]),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong setting."""

    key: str
    finding: str  # after the key: "is 0, allowed is 1 or more"
    of_value: bool = False  # so that the key from which the value comes is to blame


def of_error(error: ErrorDetails, key: str, known: Iterable[str]) -> Mistake:
    """What pydantic found at ``key``, in the words of all other messages."""
    if error["type"] == UNKNOWN:
        return Mistake(key, f"is unknown{hint(key, known)}")
    if error["type"] == "missing":
        return Mistake(key, "is missing; its section has no default for it")
    if error["type"] == "value_error" and isinstance(error["input"], Mapping):
        return Mistake(key, f"takes {allowed(error)}")
    return Mistake(key, f"is {shown(error['input'])}, allowed is {allowed(error)}", of_value=True)


def allowed(error: ErrorDetails) -> str:
    """What the schema accepts instead."""
    words = WORDS.get(error["type"])
    return words(error.get("ctx", {})) if words else error["msg"].removeprefix("Input should be ")


def shown(value: object) -> str:
    """A value as yaml writes it, shortened if it is long."""
    text = {None: "null", True: "true", False: "false"}[value] if value is None or value in (True, False) else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
    text = text or repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def hint(key: str, known: Iterable[str]) -> str:
    """The known key that is most like ``key``; if none is, the keys of its section."""
    keys = list(known)
    section, _, name = key.rpartition(".")
    beside = {known.rpartition(".")[2]: known for known in keys if known.rpartition(".")[0] == section}
    close = [beside[name] for name in difflib.get_close_matches(name, beside, n=1)]
    if not beside:
        close = difflib.get_close_matches(key, keys, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(beside))}" if beside else ""


def dotted_keys(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key below ``node``, sections included."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        yield key
        if isinstance(value, Mapping):
            yield from dotted_keys(value, f"{key}.")


def override_key(override: str) -> str:
    """The key, or the group, that an override in Hydra's syntax sets."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def below(key: str, section: str) -> bool:
    """Whether ``key`` is ``section`` or stands in it."""
    return f"{key}.".startswith(f"{section}.") or key.startswith(f"{section}[")
