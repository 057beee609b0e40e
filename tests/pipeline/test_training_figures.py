"""Figures of open-loop prediction and of fine-tuning: titles, steps, and no text clipped or over an image."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dreamset.pipeline.report import online_figure, open_loop_figures
from dreamset.pipeline.report.titles import training_title
from dreamset.pipeline.tracking.labels import Labels, labelled
from tests.pipeline.test_dataset_card import require_room_for_texts

TITLE = "pendulum_pixels · small · reconstruction · seed 0 · image"
SHAPES = [(32, 32, 3), (84, 84, 3), (48, 64, 1), (32, 480, 3), (480, 32, 1)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would have been saved."""
    figures: list[Figure] = []
    for module in (open_loop_figures, online_figure):
        monkeypatch.setattr(module, "save_figure", lambda figure, _path: figures.append(figure))
    return figures


def numbered(rows: int, shape: tuple[int, int, int], offset: float = 0.0) -> NDArray[np.float32]:
    """Images [1, rows, H, W, C] whose brightness is their step / 100."""
    brightness = np.arange(rows, dtype=np.float32).reshape(1, -1, 1, 1, 1) / 100 + np.float32(offset)
    return np.broadcast_to(brightness, (1, rows, *shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_strip_labels_every_image_with_its_step(shape: tuple[int, int, int], drawn: list[Figure]) -> None:
    truth, prediction = numbered(50, shape), numbered(50, shape, offset=0.1)
    names = ["episode 7, return 12.5"]
    open_loop_figures.open_loop_strip(truth, prediction, 5, Path("a.png"), title=TITLE, episodes=names)
    texts = require_room_for_texts(drawn[0])
    assert {f"{TITLE} · {names[0]}", "observing", "open loop: no observations"} <= texts
    labels = [text.get_text() for text in drawn[0].texts if text.get_text().startswith("step")]
    steps = [int(label.split()[1]) for label in labels]
    assert [label.partition("+")[2] for label in labels] == [str(step - 4) if step > 4 else "" for step in steps]
    assert {4, 5, 49} <= set(steps)
    shown = [round(100 * float(axes.images[0].get_array().mean())) for axes in drawn[0].axes]  # type: ignore[union-attr]
    assert shown == [*steps, *(step + 10 for step in steps), *[55] * len(steps)]


def test_a_dashed_line_stands_between_observing_and_open_loop(drawn: list[Figure]) -> None:
    images = numbered(20, (16, 16, 1))
    open_loop_figures.open_loop_strip(images, images, 3, Path("a.png"), title=TITLE, episodes=["episode 7"])
    labels = {text.get_text(): text.get_position()[0] for text in drawn[0].texts}
    (line,) = (part for part in drawn[0].get_children() if isinstance(part, Line2D))
    assert labels["step 2"] < line.get_xdata()[0] < labels["step 3\n+1"]


@pytest.mark.parametrize(("context", "word", "elements"), [(5, "open loop →", 8), (45, "← observing", 1)])
def test_lines_mark_where_observing_ends_and_say_which_elements_are_shown(
    context: int, word: str, elements: int, drawn: list[Figure]
) -> None:
    values = np.random.default_rng(0).normal(size=(2, 50, elements)).astype(np.float32)
    names = ["episode 7, return 12.5", "episode 9, return 99.9"]
    open_loop_figures.open_loop_lines(values, values + 1, context, Path("a.png"), title=TITLE, episodes=names)
    (figure,) = drawn
    FigureCanvasAgg(figure).draw()
    first = figure.axes[0]
    assert first.get_title().strip() == names[0]
    assert [text.get_text() for text in first.texts] == [word]
    truth, model, end = first.lines
    np.testing.assert_array_equal(truth.get_ydata(), values[0, :, 0])
    np.testing.assert_array_equal(model.get_ydata(), values[0, :, 0] + 1)
    assert list(end.get_xdata()) == [context - 0.5] * 2
    assert figure.get_suptitle() == (TITLE if elements == 1 else f"{TITLE} · elements 0 to 5 of 8")
    assert figure.get_tightbbox().width <= figure.get_figwidth() + 0.01
    assert figure.axes[-1].get_xlabel() == "step"


def test_fine_tuning_curve_has_values_intervals_and_references(drawn: list[Figure]) -> None:
    evaluations = pd.DataFrame(
        {
            "environment_steps": [0, 500, 1000],
            "return_iqm": [50.0, 40.0, 70.0],
            "return_iqm_low": [45.0, 30.0, 60.0],
            "return_iqm_high": [55.0, 50.0, 75.0],
            "imagined_return": [80.0, 60.0, 72.0],
            "dataset_return": [51.4] * 3,
        }
    )
    online_figure.online_curve(evaluations, Path("a.png"), title=TITLE)
    (figure,) = drawn
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines == {
        "return (IQM)": [50, 40, 70],
        "imagined return": [80, 60, 72],
        "offline policy: 50": [50, 50],
        "offline data, mean: 51.4": [51.4, 51.4],
    }
    band = figure.axes[0].collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (30, 75)
    assert figure.get_suptitle() == TITLE


def test_title_of_a_training_names_its_choices_and_leaves_out_what_is_unknown() -> None:
    lineage = {"dataset": "robot", "objective": "contrastive", "seed": 0}
    with labelled(Labels({"preset": "small"})):
        assert training_title(lineage) == "robot · small · contrastive · seed 0"
    assert training_title(lineage) == "robot · contrastive · seed 0"
    assert training_title({"dataset": "robot", "objective": None}) == "robot"
