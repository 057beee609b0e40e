"""The tracking server's address: its secrets, which nothing prints or stores, and whether a server answers.

``MLFLOW_TRACKING_URI`` may hold a password (``https://user:password@host``) or a token in its query. ``masked``
replaces both in every text that leaves the process.
"""

import logging
import os
import re
import ssl
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit

VARIABLE = "MLFLOW_TRACKING_URI"
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
HIDDEN = "***"
ANSWER_SECONDS = 5.0

_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/?#\s\"'\\<>]*@")
_QUERY = re.compile(
    r"(?i)([?&;][^=&;\s\"'\\]*(?:token|secret|passw|pwd|key|auth|credential|signature|sig)[^=&;\s\"'\\]*=)"
    r"[^&;#\s\"'\\]+"
)

_answering: set[str] = set()  # servers that have answered this process


class UnreachableError(ConnectionError):
    """No server answers at the address."""


class MaskedFormatter(logging.Formatter):
    """Formats log messages, tracebacks included, without secrets of addresses."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        return masked(super().format(record))


def masked(text: str) -> str:
    """The text with ``***`` in place of user names, passwords and tokens in addresses."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def configured() -> str | None:
    """The address of the user's server, with its secrets; None for the embedded store."""
    return os.environ.get(VARIABLE) or None


def usable(stored: str) -> str:
    """The address that was stored without its secrets, completed from the environment variable.

    Raises:
        UnreachableError: if the variable has another address.
    """
    known = configured()
    if known is not None and masked(known) == stored:
        return known
    if HIDDEN in stored:
        raise UnreachableError(
            f"the password of {stored} is not stored; set {VARIABLE} to this address with its password"
        )
    return stored


def without_user(uri: str) -> str:
    """The address of a server for MLflow, which repeats addresses in its output.

    A user name and a password in it become the environment variables that MLflow reads, unless these are set already.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ.setdefault(USER, unquote(parts.username))
    os.environ.setdefault(PASSWORD, unquote(parts.password or ""))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def require_answer(uri: str) -> None:
    """Asks a server for any answer once per process, because MLflow repeats its own requests for minutes.

    Raises:
        UnreachableError: if no answer arrives within seconds. Databases are not asked.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or uri in _answering:
        return
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health")  # noqa: S310
    unverified = ssl._create_unverified_context()  # noqa: S323 - MLflow verifies; nothing is sent or read here
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS, context=unverified):  # noqa: S310
            pass
    except urllib.error.HTTPError:  # an answer, too
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(
            f"no server answers at {masked(uri)} ({masked(str(reason))}); start it, or change {VARIABLE}"
        ) from None
    _answering.add(uri)
