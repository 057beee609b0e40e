"""The learning curve of fine-tuning."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd

from dreamset.pipeline.report.style import STYLE, new_figure, save_figure, series_style


def online_curve(evaluations: pd.DataFrame, path: Path, *, title: str) -> None:
    """Returns with intervals against environment steps, beside imagined returns, the offline policy and the data."""
    steps = evaluations["environment_steps"]
    real, imagined = series_style(0), series_style(1)
    with mpl.rc_context(STYLE):
        figure = new_figure(max(7.5, 0.11 * len(title)), 4.0)
        axes = figure.subplots()
        low, high = evaluations["return_iqm_low"], evaluations["return_iqm_high"]
        axes.plot(steps, evaluations["return_iqm"], marker=real.marker, color=real.color, label="return (IQM)")
        axes.fill_between(steps, low, high, color=real.color, alpha=0.2, linewidth=0, label="its interval")
        if "imagined_return" in evaluations:
            (line,) = axes.plot(steps, evaluations["imagined_return"], "--", label="imagined return")
            line.set(marker=imagined.marker, color=imagined.color)
        first = evaluations.iloc[0]
        for value, label, style in (
            (first["return_iqm"], "offline policy", (0, (8, 3))),
            (first["dataset_return"], "offline data, mean", ":"),
        ):
            axes.axhline(value, color="gray", linestyle=style, linewidth=1, label=f"{label}: {value:.4g}")
        axes.set(xlabel="steps in the environment", ylabel="return of an episode")
        figure.suptitle(title, fontsize=10, fontweight="bold")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        save_figure(figure, path)
