"""An exported policy on MLflow's server: answers over HTTP equal the actions of the saved policy."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException

from dreamset.pipeline import cli
from tests.builders import seeded
from tests.pipeline.policies import Pair, episodes, save_pair

START_SECONDS = 180  # a busy machine takes long to import MLflow and PyTorch
GENERATION = ("world_model=dreamer_v3", "behavior=dreamer_v3")  # Gumbel noise


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path]:
    """A saved pair and the MLflow model of its export, moved away from where it was made."""
    folder = tmp_path_factory.mktemp("served")
    pair = save_pair(folder / "runs", *GENERATION)
    models = ["--world-model", str(pair.world_model), "--policy", str(pair.policy)]
    cli.main(["export", *models, "--mlflow", "--output", str(folder / "made")])
    (folder / "made").rename(folder / "moved")
    return pair, folder / "moved" / "mlflow"


def request_of(rows: Mapping[str, Any], first: Any, memory: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of one step by the names of the signature."""
    return {f"observations/{name}": value for name, value in rows.items()} | {"is_first": first} | dict(memory)


def beginning(model: Path, count: int) -> dict[str, Any]:
    """Action and state at the start of an episode: zeros."""
    outputs = json.loads((model.parent / "policy.json").read_text())["outputs"]
    return {name: np.zeros((count, *spec["shape"]), np.float32) for name, spec in outputs.items()}


def test_mlflow_model_contains_code_and_tensors_but_no_pickle(served: tuple[Pair, Path]) -> None:
    names = {path.name for path in served[1].rglob("*") if path.is_file()}
    assert {"service.py", "policy.pt2", "policy.json", "policy.py", "MLmodel"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    assert "dreamset" not in (served[1] / "requirements.txt").read_text()
    made = served[1].parents[1]
    assert not [path for path in served[1].rglob("*") if path.is_file() and str(made).encode() in path.read_bytes()]
    assert "+" not in (served[1] / "requirements.txt").read_text()


def test_requests_without_a_seed_sample_new_noise(served: tuple[Pair, Path]) -> None:
    model = mlflow.pyfunc.load_model(str(served[1]))
    observations, first = episodes(2)
    rows = {name: value[:, 0].numpy() for name, value in observations.items()}
    request = request_of(rows, first[:, 0].numpy(), beginning(served[1], 2))
    alike = [model.predict(request, params={"seed": 5})["stochastic"] for _ in range(2)]
    drawn = [model.predict(request)["stochastic"] for _ in range(8)]
    np.testing.assert_array_equal(*alike)
    assert any(not np.array_equal(drawn[0], other) for other in drawn[1:])


def test_unfit_inputs_are_refused_by_name(served: tuple[Pair, Path]) -> None:
    model = mlflow.pyfunc.load_model(str(served[1]))
    observations, first = episodes(2)
    rows = {name: value[:, 0].numpy() for name, value in observations.items()}
    request = request_of(rows, first[:, 0].numpy(), beginning(served[1], 2))
    with pytest.raises(MlflowException, match=r"different numbers of rows: .*'is_first': 1"):
        model.predict(request | {"is_first": np.array([True])})
    with pytest.raises(MlflowException, match=r"missing inputs \['stochastic'\]"):
        model.predict({name: value for name, value in request.items() if name != "stochastic"})
    with pytest.raises(MlflowException, match=r"expected shape \(-1, 3\)"):
        model.predict(request | {"observations/state": np.zeros((2, 4), np.float32)})


@pytest.fixture(scope="module")
def address(served: tuple[Pair, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server on loopback that cannot import this package."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "dreamset.py").write_text("raise ImportError('the server must not need this package')\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(served[1]), "--env-manager", "local"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),  # comes before what is installed
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow starts uvicorn by name
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that the server's own processes end with it
        )
        try:
            wait_until_up(f"http://127.0.0.1:{port}/ping", server, folder / "log.txt")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def wait_until_up(ping: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(ping, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server is not up:\n{log.read_text()}")


def post(address: str, body: bytes) -> tuple[int, Any]:
    """Status and answer of the server."""
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def plain(request: Mapping[str, Any], **others: Any) -> bytes:
    """The request as json, in the format of the server."""
    return json.dumps({"inputs": {name: np.asarray(v).tolist() for name, v in request.items()}, **others}).encode()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5])
def test_answers_over_http_equal_the_policys_actions(served: tuple[Pair, Path], address: str, count: int) -> None:
    pair, model = served
    observations, first = episodes(count)
    ours, memory = pair.ours(seed=0), beginning(model, count)
    for t in range(first.shape[1]):
        rows = {name: value[:, t] for name, value in observations.items()}
        status, answer = post(address, plain(request_of(rows, first[:, t], memory), params={"seed": t}))
        assert status == 200, answer
        memory = answer["predictions"]
        ours.generator = seeded(t)
        expected = ours.act(rows, first[:, t])
        assert torch.equal(torch.tensor(memory["action"]), expected)


@pytest.mark.slow
def test_example_client_keeps_the_memory_between_rows_and_loses_it_where_an_episode_begins(
    served: tuple[Pair, Path], address: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, model = served
    example = runpy.run_path(str(root / "examples/policy_client.py"))
    client = example["PolicyClient"](model.parent, address.removesuffix("/invocations"), count=3)
    seeds, dumps = iter(range(100)), json.dumps
    observations, first = episodes(3)
    ours = pair.ours(seed=0)
    monkeypatch.setattr(json, "dumps", lambda body: dumps(body | {"params": {"seed": next(seeds)}}))
    for t in range(first.shape[1]):
        rows = {name: value[:, t] for name, value in observations.items()}
        ours.generator = seeded(t)
        expected = ours.act(rows, first[:, t])
        assert torch.equal(torch.tensor(client.act(rows, first[:, t].tolist())), expected), f"row {t}"


@pytest.mark.slow
def test_stored_input_example_is_a_valid_request(served: tuple[Pair, Path], address: str) -> None:
    status, answer = post(address, (served[1] / "serving_input_example.json").read_bytes())
    assert status == 200
    assert np.shape(answer["predictions"]["action"]) == (1, 2)


@pytest.mark.slow
def test_unfit_request_is_a_client_error_and_the_server_keeps_running(served: tuple[Pair, Path], address: str) -> None:
    example = json.loads((served[1] / "serving_input_example.json").read_text())
    inputs = {name: value for name, value in example["inputs"].items() if name != "is_first"}
    status, answer = post(address, json.dumps({"inputs": inputs}).encode())
    assert status == 400
    assert "is_first" in json.dumps(answer)
    assert post(address, json.dumps(example).encode())[0] == 200
