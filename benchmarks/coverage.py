"""Measures how often the intervals of the return cover the true value, by the number of training seeds.

    python -m benchmarks.coverage

The intervals are those of the stage ``compare`` and of all benchmarks: a bootstrap that draws seeds first and episodes
within them. Their true value is known here, because returns are drawn from normal distributions around zero: the mean
of each seed with the standard deviation ``spread``, the episodes of a seed around it with 1.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from dreamset.pipeline.evaluation.statistics import bootstrap, interquartile_mean

SEEDS = (2, 3, 4, 5, 10, 20)
SPREADS = (0.3, 1.0, 3.0)


def coverage(seeds: int, spread: float, *, episodes: int, repeats: int, resamples: int, confidence: float) -> float:
    """The share of ``repeats`` experiments whose interval contains the true interquartile mean, zero."""
    generator = np.random.default_rng(0)
    covered = 0
    for repeat in range(repeats):
        groups = [generator.normal(generator.normal(0, spread), 1, episodes) for _ in range(seeds)]
        interval = bootstrap(groups, interquartile_mean, confidence=confidence, resamples=resamples, seed=repeat)
        covered += interval.low <= 0 <= interval.high
    return covered / repeats


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table: the spread of seeds in columns, their number in rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20, help="episodes of a seed (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1000, help="experiments of a cell (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="of each bootstrap (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.95, help="nominal coverage (default: %(default)s)")
    options = vars(parser.parse_args(arguments))
    print("| seeds |" + "".join(f" spread {spread} |" for spread in SPREADS))
    print("|---|" + "---|" * len(SPREADS))
    with tqdm(total=len(SEEDS) * len(SPREADS), desc="coverage") as bar:
        for seeds in SEEDS:
            cells = []
            for spread in SPREADS:
                cells.append(f"{100 * coverage(seeds, spread, **options):.0f} %")
                bar.update()
            bar.write(f"| {seeds} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
