"""The figure of the transfer benchmark: a panel per curve and one for the objectives."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.offline_suite.scores import Board, Score
from benchmarks.transfer.experiments import Benchmark, Curve, Experiment
from dreamset.core.files import save_with
from dreamset.pipeline.report.style import SERIES, STYLE

Colors = Mapping[str, Any]  # by start

LABELS = {"updates": "gradient steps of the world model", "share": "percent of the new episodes"}
GREY, DASHES = "0.45", ("--", ":", "-.")


def draw(benchmark: Benchmark, board: Board, path: Path) -> None:
    """Writes the figure: curves with intervals, baselines dashed."""
    colors = dict(zip(benchmark.starts, (style.color for style in SERIES), strict=False))
    with mpl.rc_context(STYLE):
        panels = len(benchmark.curves) + 1
        figure = Figure(figsize=(4.2 * panels, 3.8), layout="constrained")
        *curves, last = figure.subplots(1, panels)
        for axes, curve in zip(curves, benchmark.curves, strict=True):
            _curve(axes, curve, benchmark, board, colors)
        _objectives(last, benchmark, board, colors)
        handles = [
            mpl.lines.Line2D([], [], color=color, marker="o", linewidth=2, label=start)
            for start, color in colors.items()
        ]
        handles += [
            mpl.lines.Line2D([], [], color=GREY, linestyle=dashes, label=name)
            for name, dashes in zip(benchmark.baselines, DASHES, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        # without metadata, equal figures give equal files
        save_with(path, lambda beside: figure.savefig(beside, dpi=120, metadata={"Software": None}))


def _curve(axes: Axes, curve: Curve, benchmark: Benchmark, board: Board, colors: Colors) -> None:
    experiments = curve.of(benchmark.experiments)
    for start, color in colors.items():
        points = [(getattr(e, curve.axis), _score(board, e)) for e in experiments if e.start == start]
        estimates = sorted(
            ((x, score.estimate) for x, score in points if score is not None), key=lambda point: point[0]
        )
        if estimates:
            places = [x for x, _ in estimates]
            axes.fill_between(
                places, [e.low for _, e in estimates], [e.high for _, e in estimates], color=color, alpha=0.15
            )
            axes.plot(places, [e.value for _, e in estimates], "o-", color=color, markersize=4)
    for name, dashes in zip(benchmark.baselines, DASHES, strict=False):
        if (curve.pair, name) in board.scores:
            value = board.scores[curve.pair, name].estimate.value
            axes.axhline(value, color=GREY, linestyle=dashes, linewidth=1)
    axes.set_xscale("log")
    ticks = sorted({getattr(e, curve.axis) for e in experiments})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(title=f"{curve.pair} ({curve.objective})", xlabel=LABELS[curve.axis], ylabel="return")


def _objectives(axes: Axes, benchmark: Benchmark, board: Board, colors: Colors) -> None:
    """One row per pair and objective, one interval per start."""
    names: list[str] = []
    for where in benchmark.objectives:
        experiments = [e for e in benchmark.experiments if e.within(where)]
        for pair, objective in dict.fromkeys((e.pair, e.objective) for e in experiments):
            own = [e for e in experiments if (e.pair, e.objective) == (pair, objective)]
            _row(axes, len(names), own, board, colors)
            names.append(f"{pair}\n{objective}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(title="objectives as pretraining", xlabel="return")


def _row(axes: Axes, place: int, own: Sequence[Experiment], board: Board, colors: Colors) -> None:
    for number, experiment in enumerate(own):
        score = _score(board, experiment)
        if score is not None:
            height = place + 0.6 * ((number + 0.5) / len(own) - 0.5)
            estimate, color = score.estimate, colors[experiment.start]
            axes.plot([estimate.low, estimate.high], [height, height], color=color, linewidth=3, alpha=0.4)
            axes.plot(estimate.value, height, "o", color=color, markersize=4)


def _score(board: Board, experiment: Experiment) -> Score | None:
    return board.scores.get((experiment.pair, experiment.name))
