"""The dataset card: counts, doubts, distributions and images, as Markdown and as one self-contained page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, write_text
from dreamset.datasets import card as contents
from dreamset.datasets.store import Store
from dreamset.pipeline.report import dataset_figures
from dreamset.pipeline.report.page.html import Help, Section, data_uri, document, escape, grid, listing, table
from dreamset.pipeline.report.showing import shown
from dreamset.pipeline.report.style import SCHEMES

MARKDOWN, PAGE = "card.md", "card.html"
MEANING = {  # figure -> what it shows
    "returns": "Undiscounted returns. Validation episodes are held out: no model is trained on them.",
    "lengths": "Numbers of transitions.",
    "rewards": "Rewards of single transitions. The axis of counts is logarithmic, so that rare rewards are seen.",
    "actions": "Actions of the recordings, for each element, beside what the action allows.",
    "disagreement": "Mean disagreement of a world model's ensemble about the transitions of an episode. Episodes on "
    "the right would teach it most.",
}


SHEETS = Help(
    what="Evenly spaced frames of episodes from the lowest to the highest return.",
    good="The frames show what the task needs, upright and in their true colours.",
    otherwise="Check the column and its axes: `dreamset data inspect` shows what the files hold.",
)


class Drawing(Protocol):
    """Draws one figure."""

    def __call__(self, path: Path, *, scheme: str) -> None:
        """Writes a PNG file in the colours of a scheme."""


def write_card(store: Store, folder: Path, disagreement: Sequence[float] | None = None) -> None:
    """Writes ``card.md``, ``card.html`` and the figures of both. Equal data give equal bytes.

    Figures: returns, lengths, rewards, actions, and for each image observation a contact sheet. What cannot be drawn is
    left out with a warning.

    Args:
        store: the dataset.
        folder: of the card; an earlier card is replaced.
        disagreement: of a world model's ensemble about each episode, for a further figure.

    Raises:
        UserError: if ``folder`` holds anything but a card.
    """
    if folder.exists() and not (folder / MARKDOWN).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a dataset card, so it is not replaced; choose another folder")
    with replaced_folder(folder) as card, _folders() as folders:
        folders |= {"light": card}
        names = _draw(_drawings(store, disagreement), folders, folder)
        write_text(card / MARKDOWN, _markdown(store, names))
        write_text(card / PAGE, _page(store, names, folders))


@contextmanager
def _folders() -> Iterator[dict[str, Path]]:
    """A temporary folder for each scheme."""
    with TemporaryDirectory() as folder:
        places = {scheme: Path(folder) / scheme for scheme in SCHEMES}
        for place in places.values():
            place.mkdir()
        yield places


def _drawings(store: Store, disagreement: Sequence[float] | None) -> list[tuple[str, Drawing]]:
    """Name and drawing of each figure, in the order of the card."""
    transitions = dataset_figures.Transitions.of(store)
    images = [name for name, spec in store.spec.observations.items() if spec.is_image]
    scored = [] if disagreement is None else [partial(dataset_figures.disagreement_histogram, store, disagreement)]
    return [
        *((name, partial(dataset_figures.contact_sheet, store, name)) for name in images),
        ("returns", partial(dataset_figures.return_histogram, store)),
        ("lengths", partial(dataset_figures.length_histogram, store)),
        ("rewards", partial(dataset_figures.reward_histogram, store, transitions)),
        *(
            ("actions", draw)
            for draw in [partial(dataset_figures.action_figure, store, transitions)]
            if store.acted.any()
        ),
        *(("disagreement", draw) for draw in scored),
    ]


def _draw(drawings: Sequence[tuple[str, Drawing]], folders: Mapping[str, Path], final: Path) -> list[str]:
    """Draws every figure in every scheme, and returns the names of those that could be drawn."""
    names = []
    for name, draw in drawings:
        with shown(final / f"{name}.png"):
            for scheme, place in folders.items():
                draw(place / f"{name}.png", scheme=scheme)
            names.append(name)
    return names


def _markdown(store: Store, names: Sequence[str]) -> str:
    pointer = f"The same with images, on one page: `{PAGE}` beside this file."
    figures = [f"![{name}]({name}.png)" for name in names]
    return "\n\n".join([contents.summary_markdown(store).rstrip(), "## Figures", pointer, *figures]) + "\n"


def _page(store: Store, names: Sequence[str], folders: Mapping[str, Path]) -> str:
    """The card as a page that contains its images."""
    sheets = [_figure(name, folders) for name in names if name not in MEANING]
    distributions = [_figure(name, folders) for name in names if name in MEANING]
    title = f"Dataset {contents.title(store)}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p style="overflow-wrap: anywhere">{escape(contents.counts(store).replace("`", ""))}</p>',
        *map(_section, contents.findings(store)),
        Section("Images", "".join(sheets), SHEETS).html(),
        Section("Distributions", grid(distributions)).html(),
        *map(_section, contents.tables(store)),
    ]
    return document(title, "".join(body))


def _section(part: contents.Section) -> str:
    items = listing(part.items) if part.items else ""
    return Section(part.title, items + (table(part.head, part.rows, numbers=False) if part.head else "")).html()


def _figure(name: str, folders: Mapping[str, Path]) -> str:
    """A figure for readers of light and of dark pages, with what it shows."""
    light, dark = (data_uri((folders[scheme] / f"{name}.png").read_bytes(), ".png") for scheme in ("light", "dark"))
    image = f'<img src="{light}" alt="{escape(name)}">'
    caption = f"<figcaption>{escape(MEANING[name])}</figcaption>" if name in MEANING else ""
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    return f"<figure><picture>{source}{image}</picture>{caption}</figure>"
