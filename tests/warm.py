"""Processes that start with their libraries loaded: a server imports the libraries once and forks for each command.

Importing torch, pandas and MLflow takes seconds of a core, which tests of many short processes would spend every time.
Each command is still a process of its own, with its own arguments, folder, environment, output and exit status. The
server does not import Dreamset, so every process imports the code of that moment. A test that needs ``PYTHONHASHSEED``,
or another variable that Python or a library reads when it starts, needs a real interpreter.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = (
    *("numpy", "pandas", "h5py", "gymnasium", "hydra", "pydantic", "PIL.Image", "imageio.v3", "safetensors.torch"),
    *("torch", "torch.export", "torch._dynamo"),  # the first optimiser imports the last one
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "dvc.cli", "dvc.repo"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store"),
)
PROGRAMS = ("python", "dreamset", "dvc")
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
server.sendall(request)
sys.exit(int.from_bytes(server.recv(1) or b"\\x01", "big"))
"""


@contextlib.contextmanager
def warm_programs() -> Iterator[Path]:
    """A folder with ``dreamset``, ``dvc`` and ``python`` (for ``-c`` and ``-m`` only).

    The server ends with the context, or with this process if that is killed: its input is then closed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        address = str(folder / "server")
        for program in PROGRAMS:
            (folder / program).write_text(CLIENT.format(python=sys.executable, address=address))
            (folder / program).chmod(0o755)
        environment = {**os.environ, "PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command = [sys.executable, "-P", __file__, address]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield folder


def serve(address: str) -> tuple[str, list[str]]:
    """Forks for each request. It returns in the new processes only: the program and its arguments."""
    for library in LIBRARIES:
        importlib.import_module(library)
    if sys.dont_write_bytecode:  # then every process would compile this package; the folder ends with the server
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(address).with_name("bytecode"))
    gc.freeze()  # a collection in a new process would copy the memory of all that was imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that report an exit status
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    return _begin(connection)
    os._exit(0)


def _begin(connection: socket.socket) -> tuple[str, list[str]]:
    """Reads a request and forks again: the new process returns, this one waits for it and reports its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as stream:
        program, arguments, folder, environment = json.loads(stream.read(int.from_bytes(size, "big")))
    if process := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # the client was killed
            connection.sendall(bytes([status if status >= 0 else 128 - status]))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return program, arguments


def run(program: str, arguments: list[str]) -> None:
    """What ``program`` of this environment does with the arguments."""
    if arguments[:1] != ["-I"]:
        sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if program == "python":
        place = next(number for number, argument in enumerate(arguments) if argument in ("-c", "-m"))
        option, named, *rest = arguments[place:]
        if place == 0:  # neither -I nor -P
            sys.path.insert(0, "" if option == "-c" else str(Path.cwd()))
        sys.argv = [option, *rest]
        if option == "-m":
            runpy.run_module(named, run_name="__main__", alter_sys=True)
        else:
            exec(compile(named, "<string>", "exec"), {"__name__": "__main__"})
    else:
        path = str(Path(sys.executable).with_name(program))
        sys.argv = [path, *arguments]
        runpy.run_path(path, run_name="__main__")


def finish(status: int) -> None:
    """Ends the process as the interpreter does, but leaves the objects of the libraries alone."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    program, arguments = serve(sys.argv[1])
    try:
        run(program, arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        finish(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        traceback.print_exc()
        finish(1)
    finish(0)
