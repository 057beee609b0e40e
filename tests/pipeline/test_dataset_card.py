"""The dataset card as a page, and its figures: every number against the store, and no text clipped."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.sources import SourceDescription
from dreamset.pipeline.report import dataset_figures
from dreamset.pipeline.report.card import write_card
from dreamset.pipeline.report.dataset_figures import Transitions

LENGTHS = (3, 8, 5, 12, 4, 6)  # transitions; episode 2 is invalid
BOUNDS = ActionSpec(2, False, (-1.0, 0.0), (1.0, 0.08))
UNBOUNDED = ActionSpec(2, False, (-np.inf, 0.0), (np.inf, 0.08))
CHOICES = ActionSpec(2, True, (0.0, 0.0), (1.0, 1.0))


class Recorded:
    """Random episodes with images of any shape, of which one is invalid."""

    episode_count = len(LENGTHS)

    def __init__(self, shape: tuple[int, int, int] = (6, 8, 1), action: ActionSpec = BOUNDS) -> None:
        self.shape, self.action = shape, action

    def describe(self) -> SourceDescription:
        observations = {"camera": ArraySpec(self.shape, "uint8"), "joints": ArraySpec((3,), "float32")}
        return SourceDescription(observations, {}, self.action, {"format": "any", "author": ["<b>me</b>"], "env": None})

    def read(self, number: int) -> RawEpisode:
        generator, length = np.random.default_rng(number), LENGTHS[number]
        joints = generator.normal(size=(length + 1, 3)).astype(np.float32)
        joints[1, 2] = np.nan if number == 2 else 0.0
        taken = generator.integers(0, 2, length)
        actions = np.eye(2)[taken] if self.action.discrete else generator.uniform(0, 0.05, (length, 2))
        return RawEpisode(
            name=f"episode {number}",
            observations={"camera": generator.integers(0, 256, (length + 1, *self.shape), np.uint8), "joints": joints},
            actions=actions.astype(np.float32),
            rewards=generator.normal(size=length).astype(np.float32) * 200,
            terminated=False,
            privileged={},
        )


def recorded(folder: Path, **settings: Any) -> Store:
    return write_store(Recorded(**settings), folder, on_invalid="quarantine", validation_fraction=0.4)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would have been saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(dataset_figures, "save_figure", lambda figure, _path: figures.append(figure))
    return figures


def test_the_page_contains_its_images_and_needs_no_network(tmp_path: Path) -> None:
    write_card(recorded(tmp_path / "robot"), tmp_path / "card")
    page = (tmp_path / "card/card.html").read_text()
    sources = re.findall(r'(?:src|srcset|href)="([^"]+)"', page)
    assert len(sources) == 2 * len(list((tmp_path / "card").glob("*.png"))) == 10
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in re.sub(r'"data:[^"]+"', "", page)
    assert len(set(sources)) == 10, "light and dark images are the same"


def test_the_page_says_what_the_markdown_says(tmp_path: Path) -> None:
    write_card(recorded(tmp_path / "robot"), tmp_path / "card")
    page, text = ((tmp_path / "card" / name).read_text() for name in ("card.html", "card.md"))
    assert "<b>me</b>" not in page
    assert "&lt;b&gt;me&lt;/b&gt;" in page
    for words in ("Quarantined: 1 episodes", "rewards reach", "5 (3 train, 2 validation)", "is nan at step 1"):
        assert words in text
        assert words in page
    assert '<table class="numbers">' not in page  # text is not aligned to the right
    assert page.index("rewards reach") < page.index("Quarantined") < page.index("<picture>") < page.index("Source")
    assert not any(sign in part for part in (page.partition("<main>")[2], text) for sign in ("None", "['", "{'"))


def test_equal_data_give_equal_cards(tmp_path: Path) -> None:
    cards = []
    for name in ("first", "second"):
        write_card(recorded(tmp_path / name / "robot"), tmp_path / name / "card")
        cards.append({path.name: path.read_bytes() for path in (tmp_path / name / "card").iterdir()})
    assert cards[0] == cards[1]
    assert cards[0].keys() == {
        *("card.md", "card.html"),
        *(f"{name}.png" for name in ("camera", "returns", "lengths", "rewards", "actions")),
    }


@pytest.mark.parametrize("draw", [dataset_figures.return_histogram, dataset_figures.length_histogram])
def test_histograms_count_every_episode_in_its_split(
    draw: Callable[..., None], tmp_path: Path, drawn: list[Figure]
) -> None:
    draw(recorded(tmp_path / "robot"), tmp_path / "any.png")
    (axes,) = drawn[0].axes
    counts = {}
    for patch in axes.patches:
        values, _, baseline = patch.get_data()  # type: ignore[attr-defined]
        counts[patch.get_label()] = float((values - baseline).sum())
    assert counts["train (3 episodes)"] == 3
    assert counts["validation (2 episodes)"] == 2
    assert axes.get_title().startswith("robot: ")


def test_rewards_are_those_of_all_transitions(tmp_path: Path, drawn: list[Figure]) -> None:
    store = recorded(tmp_path / "robot")
    transitions = Transitions.of(store)
    expected = np.concatenate([Recorded().read(number).rewards for number in (0, 1, 3, 4, 5)])
    np.testing.assert_array_equal(transitions.rewards, expected)
    assert transitions.extent == "33 transitions"
    dataset_figures.reward_histogram(store, transitions, tmp_path / "any.png")
    (bars,) = drawn[0].axes[0].patches
    assert isinstance(bars, StepPatch)
    assert bars.get_data().values.sum() == 33


def test_only_some_episodes_of_a_large_store_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_figures, "MOST_READ", 2)
    transitions = Transitions.of(recorded(tmp_path / "robot"))
    assert transitions.extent == "9 transitions in 2 of 5 episodes"
    assert len(transitions.rewards) == LENGTHS[0] + LENGTHS[5]


@pytest.mark.parametrize("action", [BOUNDS, UNBOUNDED])
def test_action_figure_shows_quantiles_of_each_element(action: ActionSpec, tmp_path: Path, drawn: list[Figure]) -> None:
    store = recorded(tmp_path / "robot", action=action)
    transitions = Transitions.of(store)
    dataset_figures.action_figure(store, transitions, tmp_path / "any.png")
    lines = {lines.get_label(): lines.get_segments() for lines in drawn[0].axes[0].collections}  # type: ignore[attr-defined]
    values = transitions.actions.astype(np.float64)
    if action is BOUNDS:
        values = 100 * (values - [-1, 0]) / [2, 0.08]
    for label, share in (("seen", (0, 1)), ("middle 90 %", (0.05, 0.95))):
        ends = np.array([segment[:, 0] for segment in lines[label]])
        np.testing.assert_allclose(ends, np.quantile(values, share, axis=0).T, rtol=1e-6)


def test_action_figure_shows_the_share_of_each_choice(tmp_path: Path, drawn: list[Figure]) -> None:
    store = recorded(tmp_path / "robot", action=CHOICES)
    transitions = Transitions.of(store)
    dataset_figures.action_figure(store, transitions, tmp_path / "any.png")
    widths = [patch.get_width() for patch in drawn[0].axes[0].patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths, 100 * transitions.actions.mean(0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32, 3), (84, 84, 3), (48, 64, 1), (16, 240, 3), (240, 16, 1)])
def test_no_text_of_a_contact_sheet_is_clipped_or_over_an_image(
    shape: tuple[int, int, int], tmp_path: Path, drawn: list[Figure]
) -> None:
    store = recorded(tmp_path / "robot", shape=shape)
    dataset_figures.contact_sheet(store, "camera", tmp_path / "any.png")
    assert {"step 0", "step 12"} <= require_room_for_texts(drawn[0])
    labels = [text.get_text().partition("\n")[0] for text in drawn[0].texts if "return " in text.get_text()[:20]]
    assert labels == [f"episode {number}" for number in sorted(range(5), key=store.returns.tolist().__getitem__)]


def require_room_for_texts(figure: Figure) -> set[str]:
    """All texts of the figure, which lie within it, beside the images and beside each other."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for text in figure.texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    inside = figure.bbox
    for text, box in zip(texts, boxes, strict=True):
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1, text
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1, text
        assert not any(box.overlaps(axes.bbox) for axes in figure.axes), text
        assert sum(box.overlaps(other) for other in boxes) == 1, text
    return {text.get_text() for text in texts}
