"""Measures frozen encoders: what their features hold (linear probes), how fast they are, and how large.

    python -m benchmarks.frozen_features [--tasks two_room puck] [--features pixels block-10] [--help]

Probes: each state comes from an episode of its own, after a few random actions, and is drawn at 96 pixels. A ridge
regression predicts the true state from the features. A random half of the states fits it, a quarter chooses the weight
of the penalty, and the last quarter, which neither has seen, gives R2. This is repeated with other splits; the tables
show means, the CSV file also the spread. The task ``pusht`` needs an extra.

Speed: frames per second of one process, the median of several rounds with all encoders in each.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from dreamset.core.errors import UserError
from dreamset.vision import DinoV2, EfficientNetLite0, FrozenEncoder, RandomWeights

Rows = NDArray[np.floating[Any]]
Frames = NDArray[np.uint8]
Truth = Mapping[str, Rows]  # part of the state -> [N, elements]

SIZE = 96  # pixels of the drawn images, and of those that the encoders see
PENALTIES = 10.0 ** np.arange(-4, 5)  # times the mean of the features' squared lengths
SHARES = (0.5, 0.25)  # of the states: for fitting, for choosing the penalty; the rest is for testing


@dataclass(frozen=True)
class Task:
    """An environment with images, and what one image of it shows of the true state."""

    make: Callable[[], Any]
    parts: Mapping[str, Callable[[Rows], Rows]]  # name -> the part of ``info["state"]``
    steps: int  # most random actions before an image


def _made(module: str, **settings: Any) -> Any:
    """An environment of ``dreamset.environments``, which is imported only if its task is chosen: some need extras."""
    return import_module(f"dreamset.environments.{module}").make(**settings)


def _angle(state: Rows) -> Rows:
    return np.array([np.cos(state[4]), np.sin(state[4])])


TASKS: Mapping[str, Task] = {
    "two_room": Task(partial(_made, "two_room", image_size=SIZE, goal=None), {"agent": lambda state: state[:2]}, 20),
    "pusher": Task(
        partial(_made, "pusher", image_size=SIZE, goal=None),
        {"agent": lambda state: state[:2], "block": lambda state: state[2:4]},
        steps=20,
    ),
    "puck": Task(
        partial(_made, "puck", image_size=SIZE),
        {"puck": lambda state: state[:2], "goal": lambda state: state[4:6]},
        steps=20,
    ),
    "pendulum": Task(partial(_made, "pendulum", image_size=SIZE), {"angle": lambda state: state[:2]}, steps=10),
    "pusht": Task(
        partial(_made, "pusht", image_size=SIZE),
        {"agent": lambda state: state[:2], "block": lambda state: state[2:4], "angle": _angle},
        steps=10,
    ),
}


def states(task: Task, count: int) -> tuple[Frames, Truth]:
    """``count`` images [N, S, S, 3] and their true states, each from an episode of its own."""
    environment = task.make()
    generator = np.random.default_rng(0)
    images, truths = [], []
    for number in range(count):
        environment.action_space.seed(number)
        observation, info = environment.reset(seed=number)
        for _ in range(int(generator.integers(task.steps + 1))):
            observation, _, terminated, truncated, info = environment.step(environment.action_space.sample())
            if terminated or truncated:
                break
        images.append(np.array(observation["image"]))
        truths.append(np.asarray(info["state"], np.float64))
    return np.stack(images), {name: np.stack([part(row) for row in truths]) for name, part in task.parts.items()}


@dataclass(frozen=True)
class Encoded:
    """A row of the tables: an encoder, or None for the pixels themselves."""

    words: str
    encoder: FrozenEncoder | None

    def vectors(self, images: Frames) -> Rows:
        """The features of every image as one vector, [N, F]."""
        features: NDArray[Any] = images if self.encoder is None else self.encoder.features(images)
        return features.reshape(len(images), -1).astype(np.float32)


def rows(dino: str | None) -> dict[str, Encoded]:
    """All features that can be measured, by their names on the command line."""
    lite = partial(EfficientNetLite0, size=SIZE)
    chosen = {
        "pixels": Encoded("pixels", None),
        "block-10": Encoded("pretrained, block 10, 6 x 6 patches", lite()),
        "block-10-pool-2": Encoded("the same, means of 2 x 2 patches", lite(pool=2)),
        "block-10-mean": Encoded("the same, mean of all patches", lite(pool=6)),
        "block-4": Encoded("pretrained, block 4, 12 x 12 patches", lite(block=4)),
        "block-15": Encoded("pretrained, block 15, 3 x 3 patches", lite(block=15)),
        "random-block-10": Encoded("random weights, block 10", RandomWeights(lite())),
        "random-block-4": Encoded("random weights, block 4", RandomWeights(lite(block=4))),
    }
    return chosen if dino is None else chosen | {"dino": Encoded("DINOv2, 14 x 14 patches", DinoV2(dino))}


def splits(count: int, repeats: int) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Numbers of the states for fitting, for choosing the penalty and for testing, in random splits."""
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(count)
        bounds = np.rint(np.cumsum(SHARES) * count).astype(int)
        fit, choose, test = np.split(order, bounds)
        yield fit, choose, test


def probe(features: Rows, truth: Rows, split: tuple[Rows, Rows, Rows]) -> float:
    """R2 on the test states, the mean over the elements of ``truth``.

    The penalty is chosen by the states in the middle of ``split``, with which the probe is then fitted again.
    """
    fit, choose, test = split
    penalty = max(PENALTIES, key=lambda penalty: r_squared(*ridge(features, truth, fit, choose, penalty)))
    return r_squared(*ridge(features, truth, np.concatenate([fit, choose]), test, penalty))


def ridge(features: Rows, truth: Rows, fit: Rows, test: Rows, penalty: float) -> tuple[Rows, Rows]:
    """Predictions and truth of the states ``test`` [n, elements], by a ridge regression on the states ``fit``.

    Solved for one weight per state, because there are more features than states.
    """
    centre, mean = features[fit].mean(axis=0), truth[fit].mean(axis=0)
    known, wanted = (features[numbers].astype(np.float64) - centre for numbers in (fit, test))
    products = known @ known.T
    penalized = products + penalty * np.trace(products) / len(fit) * np.eye(len(fit))
    return wanted @ known.T @ np.linalg.solve(penalized, truth[fit] - mean) + mean, truth[test]


def r_squared(predicted: Rows, truth: Rows) -> float:
    """1 - squared error / variance, the mean over elements."""
    error = np.square(predicted - truth).sum(axis=0)
    return float(np.mean(1 - error / np.square(truth - truth.mean(axis=0)).sum(axis=0)))


def probes(tasks: Sequence[str], chosen: Mapping[str, Encoded], *, count: int, repeats: int) -> pd.DataFrame:
    """One row per task, features and part of the state."""
    table = []
    with tqdm(total=len(tasks) * len(chosen), desc="probes") as bar:
        for task in tasks:
            images, truths = states(TASKS[task], count)
            for name, row in chosen.items():
                vectors = row.vectors(images)
                for part, truth in truths.items():
                    scores = [probe(vectors, truth, split) for split in splits(count, repeats)]
                    spread = {"r2": np.mean(scores), "lowest": min(scores), "highest": max(scores)}
                    table.append({"task": task, "features": name, "part": part, "states": count, **spread})
                bar.update()
    return pd.DataFrame(table)


def speeds(chosen: Mapping[str, Encoded], *, frames: int, rounds: int) -> dict[str, float]:
    """Frames per second of each encoder: the median over rounds; the first round is left out."""
    images = np.random.default_rng(0).integers(0, 256, (frames, SIZE, SIZE, 3), np.uint8)
    rates: dict[str, list[float]] = {name: [] for name, row in chosen.items() if row.encoder is not None}
    for _ in tqdm(range(rounds + 1), desc="speed"):
        for name, measured in rates.items():
            began = time.perf_counter()
            chosen[name].vectors(images)
            measured.append(frames / (time.perf_counter() - began))
    return {name: statistics.median(measured[1:]) for name, measured in rates.items()}


def print_probes(table: pd.DataFrame, chosen: Mapping[str, Encoded]) -> None:
    """R2 with features in rows and parts of the state in columns."""
    columns = list(dict.fromkeys(zip(table["task"], table["part"], strict=True)))
    print("| features | " + " | ".join(f"{task}: {part}" for task, part in columns) + " |")
    print("|---|" + "---|" * len(columns))
    scores = table.set_index(["features", "task", "part"])["r2"]
    for name, row in chosen.items():
        print(f"| {row.words} | " + " | ".join(f"{scores[name, task, part]:.2f}" for task, part in columns) + " |")


def print_costs(rates: Mapping[str, float], chosen: Mapping[str, Encoded]) -> None:
    """Frames per second and bytes per frame."""
    print(f"\n| features | frames per second | kB per frame (image: {SIZE * SIZE * 3 / 1000:.1f}) |\n|---|---|---|")
    for name, rate in rates.items():
        encoder = chosen[name].encoder
        assert encoder is not None
        patches, channels = encoder.shape
        print(f"| {chosen[name].words} | {rate:,.0f} | {2 * patches * channels / 1000:.1f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the probes to a CSV file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["two_room", "pusher"])
    parser.add_argument("--features", nargs="+", metavar="NAME", help="rows of the tables (default: all)")
    parser.add_argument("--dino", metavar="FOLDER", help="of the weights of DINOv2, for one more row")
    parser.add_argument("--states", type=int, default=800, help="of each task (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="random splits (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=64, help="of a round of the speed (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of the speed; 0: do not measure it")
    parser.add_argument("--csv", type=Path, default=Path("frozen_features.csv"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    available = rows(options.dino)
    unknown = sorted(set(options.features or ()) - available.keys())
    if unknown:
        parser.error(f"--features lists {', '.join(unknown)}; choose from {', '.join(available)}")
    chosen = {name: row for name, row in available.items() if name in (options.features or available)}
    try:
        table = probes(options.tasks, chosen, count=options.states, repeats=options.repeats)
        table.to_csv(options.csv, index=False, float_format="%.4f")
        print_probes(table, chosen)
        if options.rounds:
            print_costs(speeds(chosen, frames=options.frames, rounds=options.rounds), chosen)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
