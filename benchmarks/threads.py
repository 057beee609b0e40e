"""Measures threads and spinning: seconds per world-model update, on an idle machine and beside a busy process.

    python benchmarks/threads.py

The command line sets GOMP_SPINCOUNT=5000 by default, as a result of this benchmark.
"""

import os
import subprocess
import sys

SETTINGS: dict[str, dict[str, str]] = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads, never spinning": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    "2 threads, spinning briefly": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "5000"},
    "2 threads, torch's default": {"OMP_NUM_THREADS": "2"},
}

UPDATES = """
import statistics, time
import torch
from dreamset.core.records import SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer

config = compose(["preset=small"])
spec = DataSpec({"image": ArraySpec((32, 32, 3), "uint8")}, ActionSpec(1, False, (-2.0,), (2.0,)), {}, {})
model = build_part(config["world_model"], spec)
objective = build_part(config["objective"], model)
settings = config["world_model_training"]
trainer = WorldModelTrainer(model, objective, optimizer=build_part(settings["optimizer"]),
                            clip_norm=settings["clip_norm"], generator=torch.Generator().manual_seed(0))
rows = settings["batch"]["size"], settings["batch"]["length"]
false = torch.zeros(rows, dtype=torch.bool)
batch = SequenceBatch({"image": torch.randint(0, 256, (*rows, 32, 32, 3), dtype=torch.uint8)},
                      torch.rand(*rows, 1), torch.rand(rows), false, false, false, {}, false.long())
times = []
for _ in range(8):
    began = time.perf_counter()
    trainer.step(batch)
    times.append(time.perf_counter() - began)
print(statistics.median(times[2:]))
"""


def measure(settings: dict[str, str]) -> str:
    """Median seconds of an update in a new process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    try:
        result = subprocess.run(
            [sys.executable, "-c", UPDATES],
            env=environment | settings,
            text=True,
            capture_output=True,
            check=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return "over 120 s in total"
    return f"{float(result.stdout):.3f} s"


def main() -> None:
    """Prints one line per setting."""
    for name, settings in SETTINGS.items():
        idle = measure(settings)
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            busy = measure(settings)
        finally:
            neighbour.kill()
            neighbour.wait()
        print(f"{name:32s} idle {idle}, beside a busy process {busy}", flush=True)


if __name__ == "__main__":
    main()
