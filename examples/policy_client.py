"""A client of a served policy; needs numpy only. ``run_policy.py`` uses it if you give it an address.

dreamset export dataset=pendulum_state --output my_policy --mlflow
mlflow models serve -m my_policy/mlflow --env-manager local --host 127.0.0.1 --port 5001
python examples/run_policy.py my_policy Pendulum-v1 http://127.0.0.1:5001
"""

import json
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class PolicyClient:
    """Acts like the class ``Policy`` of an exported folder, but a server computes each step.

    The server remembers nothing. The client keeps action and state of its last answer and sends them with the next row.

    Args:
        folder: the exported folder; only its ``policy.json`` is read.
        address: the server's, without a path.
        count: number of parallel episodes.
    """

    def __init__(self, folder: str | Path, address: str, *, count: int = 1) -> None:
        about = json.loads((Path(folder) / "policy.json").read_text(encoding="utf-8"))
        memory = {name: spec for name, spec in about["outputs"].items() if name in about["inputs"]}
        self.memory = {name: np.zeros((count, *spec["shape"])).tolist() for name, spec in memory.items()}
        self.address = f"{address}/invocations"

    def act(self, observations: Mapping[str, Any], is_first: Sequence[bool]) -> Any:
        """Actions [N, A] in the environment's units, discrete ones one-hot. Rows with ``is_first`` reset the memory."""
        rows = {f"observations/{name}": np.asarray(values).tolist() for name, values in observations.items()}
        inputs = rows | {"is_first": list(is_first)} | self.memory
        body = json.dumps({"inputs": inputs}).encode()
        request = urllib.request.Request(self.address, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - an address that the user gives
            outputs = json.load(answer)["predictions"]
        self.memory = {name: outputs[name] for name in self.memory}
        return np.array(outputs["action"], np.float32)
