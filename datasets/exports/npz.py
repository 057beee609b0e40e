"""Exports one npz file per episode in Dreamer v2's layout: N + 1 rows, actions precede observations."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dreamset.core.files import replaced_folder
from dreamset.datasets.store import Store


def export_npz(store: Store, folder: Path, on_episode: Callable[[], None]) -> None:
    """Writes ``<number>-<transitions>.npz`` files, uncompressed; privileged columns as ``privileged.<name>``.

    Raises:
        UserError: if an episode has no actions.
    """
    store.require_actions("the export")
    with replaced_folder(folder) as target:
        for number, rows in enumerate(store.lengths.tolist()):
            with zipfile.ZipFile(target / f"{number:08d}-{rows - 1}.npz", "w") as archive:
                for name, values in store.read(number).items():  # savez refuses a column named "file"
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, values, allow_pickle=False)
            on_episode()
