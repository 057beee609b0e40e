"""The dataset card: counts, returns and pictures on one page."""

from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, write_text
from dreamset.datasets.card import summary_markdown
from dreamset.datasets.store import Store
from dreamset.pipeline.report import figures

_PAGE = "card.md"


def write_card(store: Store, folder: Path) -> None:
    """``card.md``, a histogram of returns and a contact sheet of frames where there are any.

    Raises:
        UserError: if ``folder`` holds something that is no card.
    """
    if folder.exists() and not (folder / _PAGE).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is no dataset card, so it is not replaced; choose another folder")
    with replaced_folder(folder) as fresh:
        figures.return_histogram(store, fresh / "returns.png")
        pictures = ["![returns](returns.png)"]
        for name, spec in store.spec.observations.items():
            if spec.is_image:
                figures.contact_sheet(store, name, fresh / f"{name}.png")
                pictures.append(f"![{name}]({name}.png)")
        write_text(fresh / _PAGE, "\n\n".join([summary_markdown(store), *pictures]) + "\n")
