"""The dataset card: counts, returns and images on one page."""

from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, write_text
from dreamset.datasets.card import summary_markdown
from dreamset.datasets.store import Store
from dreamset.pipeline.report import dataset_figures
from dreamset.pipeline.report.showing import shown

_PAGE = "card.md"


def write_card(store: Store, folder: Path) -> None:
    """Writes ``card.md``, a histogram of returns and, for each image observation, a contact sheet of frames.

    What cannot be drawn is left out with a warning.

    Raises:
        UserError: if ``folder`` holds anything but a card.
    """
    if folder.exists() and not (folder / _PAGE).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a dataset card, so it is not replaced; choose another folder")
    with replaced_folder(folder) as card:
        plots = []
        with shown(folder / "returns.png"):
            dataset_figures.return_histogram(store, card / "returns.png")
            plots.append("![returns](returns.png)")
        for name in (name for name, spec in store.spec.observations.items() if spec.is_image):
            with shown(folder / f"{name}.png"):
                dataset_figures.contact_sheet(store, name, card / f"{name}.png")
                plots.append(f"![{name}]({name}.png)")
        write_text(card / _PAGE, "\n\n".join([summary_markdown(store), *plots]) + "\n")
