"""The learning curve of fine-tuning."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd

from dreamset.pipeline.report.style import STYLE, new_figure, save_figure, series_style


def online_curve(evaluations: pd.DataFrame, path: Path, *, title: str) -> None:
    """Returns with intervals against environment steps, beside imagined returns, the offline policy and the data."""
    steps = evaluations["environment_steps"]
    with mpl.rc_context(STYLE):
        figure = new_figure(6, 3.6)
        axes = figure.subplots()
        real, imagined = series_style(0).color, series_style(1).color
        axes.plot(steps, evaluations["return_iqm"], marker="o", color=real, label="return (IQM)")
        axes.fill_between(steps, evaluations["return_iqm_low"], evaluations["return_iqm_high"], alpha=0.2)
        if "imagined_return" in evaluations:
            axes.plot(steps, evaluations["imagined_return"], color=imagined, linestyle=":", label="imagined")
        first = evaluations.iloc[0]
        for value, label, style in (
            (first["return_iqm"], "offline policy", "--"),
            (first["dataset_return"], "offline data, mean", ":"),
        ):
            axes.axhline(value, color="gray", linestyle=style, linewidth=1, label=label)
        axes.set(xlabel="steps in the environment", ylabel="return of an episode", title=title)
        axes.legend(frameon=False)
        save_figure(figure, path)
