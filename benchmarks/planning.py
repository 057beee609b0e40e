"""Measures planning: decisions per second, and ratios to a naive planner and to the arithmetic that it cannot avoid.

    OMP_NUM_THREADS=1 python benchmarks/planning.py [--presets small_state small_v3] [--rounds 5]

For each preset one line, with untrained weights, `acting=cem` and random numbers of a fixed seed:

decisions/s   of one episode, and of 16 side by side
naive         time of a planner that encodes the start for every candidate and rolls candidates one by one, over ours;
              it is measured with 4 candidates and scaled to all of them
steps         our time over that of the same steps of the model in the same batches, without search, score and noise
floor         our time over that of our floating-point operations at the rate of one large matrix product

All variants alternate in one process; numbers are medians over the rounds of the ratios of a round.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dreamset.behaviors.planning.controller import PlanningController
from dreamset.behaviors.planning.planner import Planned, Planning
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.core.states import map_state
from dreamset.models.imagination import predict
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part

PRESETS = ("small_state", "small_state_v3", "small", "small_v3")
SIDE_BY_SIDE, FEW, EDGE = 16, 4, 1024
VECTOR = {"state": ArraySpec((3,), "float32")}
IMAGE = {"image": ArraySpec((32, 32, 3), "uint8")}


@dataclass(frozen=True)
class Subject:
    """A planner in an untrained model, and one row of observations for it."""

    planning: Planning
    controller: PlanningController[Any]
    observations: dict[str, Tensor]  # [1, ...]

    @classmethod
    def of(cls, preset: str) -> "Subject":
        """The world model and the planner of a preset on the pendulum's data."""
        vector = preset.startswith("small_state")
        config = compose([f"preset={preset}", "acting=cem", f"dataset=pendulum_{'state' if vector else 'pixels'}"])
        arrays = VECTOR if vector else IMAGE
        statistic = {name: VectorStatistics((0.0,) * 3, (1.0,) * 3) for name in arrays if vector}
        spec = DataSpec(arrays, ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,)), {}, statistic)
        model = build_part(config["world_model"], spec).eval().requires_grad_(False)
        planning: Planning = build_part(config["acting"])
        row = {name: torch.zeros(1, *array.shape, dtype=getattr(torch, array.dtype)) for name, array in arrays.items()}
        return cls(planning, Planned(planning, model).controller(model), row)

    def decide(self, count: int = 1) -> None:
        """One decision of each of ``count`` episodes."""
        observed = {name: value.expand(count, *value.shape[1:]) for name, value in self.observations.items()}
        first = torch.ones(count, dtype=torch.bool)
        self.controller.act(observed, first, self.controller.initial(count), seeded())

    @torch.no_grad()
    def decide_naively(self) -> None:
        """One decision with a few candidates, each of which is encoded and rolled alone."""
        controller, model, generator = self.controller, self.controller.model, seeded()
        memory, first = controller.initial(1), torch.ones(1, dtype=torch.bool)

        def alone(plan: Tensor) -> Tensor:
            noise = model.noise((1,), generator)
            start = model.filter(memory.state, memory.action, self.observations, first, noise)
            score: Tensor = controller.score(predict(model, start, plan[None], generator), model)
            return score

        few = replace(controller.optimizer, candidates=FEW, elites=1)
        few(
            lambda candidates: torch.stack([alone(plan) for plan in candidates[0]], dim=1),
            memory.plan,
            lambda *sizes: torch.randn(1, *sizes, generator=generator),
        )

    @torch.no_grad()
    def step_only(self) -> None:
        """The steps of the model in one decision."""
        model, search = self.controller.model, self.controller.optimizer
        start = model.initial(search.candidates)
        action = torch.zeros(search.candidates, model.spec.action.size)
        noise = model.noise((search.candidates,), seeded())
        for _ in range(search.iterations):
            state = map_state(torch.clone, start)
            for _ in range(search.horizon):
                state = model.step(state, action, noise)

    def operations(self) -> int:
        """Floating-point operations of one decision."""
        with FlopCounterMode(display=False) as counter:
            self.decide()
        return counter.get_total_flops()


def seeded() -> torch.Generator:
    """A new generator."""
    return torch.Generator().manual_seed(0)


def seconds(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(preset: str, rounds: int) -> str:
    """The line of a preset."""
    subject = Subject.of(preset)
    square, operations = torch.randn(EDGE, EDGE), subject.operations()
    rows = []
    for _ in range(rounds + 1):  # the first one warms up
        one, many = seconds(subject.decide), seconds(lambda: subject.decide(SIDE_BY_SIDE))
        naive = seconds(subject.decide_naively) * subject.planning.optimizer.candidates / FEW
        steps, product = seconds(subject.step_only), seconds(lambda: square @ square)
        floor = operations / (2 * EDGE**3 / product)
        rows.append((1 / one, SIDE_BY_SIDE / many, naive / one, one / steps, one / floor))
    single, side, naive, steps, floor = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    return (
        f"{preset:16s} {single:8.1f} {side:8.1f} decisions/s   naive {naive:6.1f} x   steps {steps:5.2f} x   "
        f"floor {floor:5.1f} x   {operations / 1e6:.0f} MFLOP"
    )


def main() -> None:
    """Prints one line per preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    print(f"{torch.get_num_threads()} thread(s); one episode, then {SIDE_BY_SIDE} side by side")
    for preset in settings.presets:
        print(measure(preset, settings.rounds), flush=True)


if __name__ == "__main__":
    main()
