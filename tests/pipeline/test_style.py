"""How figures are written."""

from pathlib import Path

import matplotlib as mpl
import pytest

from dreamset.pipeline.report.style import SCHEMES, STYLE, new_figure, save_figure


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_written_figure_is_the_one_that_matplotlib_saves(scheme: str) -> None:
    with mpl.rc_context({**STYLE, **SCHEMES[scheme]}):
        figure = new_figure(3.0, 2.0)
        axes = figure.subplots()
        axes.plot([0, 1], [1, 10], label="line")
        axes.set(xlabel="step", ylabel="return", title="a title", yscale="log")
        figure.legend(loc="outside lower center")
        save_figure(figure, Path("ours.png"))
        figure.savefig("theirs.png", dpi=120, metadata={"Software": None})
    assert Path("ours.png").read_bytes() == Path("theirs.png").read_bytes()
