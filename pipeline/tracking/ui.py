"""``dreamset ui``: MLflow's pages for the embedded store, or the address of the user's server."""

import os
import socket
import sys

from dreamset.core.errors import UserError
from dreamset.pipeline.registry import retrieval
from dreamset.pipeline.tracking import address, embedded

PAGE = "?workflowType=machine_learning"


def prepare(port: int) -> tuple[str, list[str]]:
    """The address of the pages, and the command that serves them; no command if a server serves its own pages.

    Reports of finished stages are sent first.

    Raises:
        UserError: if the port is in use, the store cannot be opened, or no server answers.
    """
    with retrieval.connection(make=True):
        pass  # two processes must not create a store at the same time
    uri = address.configured()
    if uri is not None and uri.startswith(("http://", "https://")):
        return address.masked(address.without_user(uri)), []
    _require_free(port)
    # the address may hold a password, which a command line would show; without background jobs the server is two
    # processes instead of ten, and starts in seconds
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri or embedded.uri()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return f"http://127.0.0.1:{port}/{PAGE}", command


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UserError(f"--port {port} cannot be used ({error}); choose another port") from None
