"""The experiments in MLflow: what each one holds, and links between them."""

from functools import cache
from typing import Any

from dreamset.pipeline.tracking import embedded

ROWS, STAGES = "dreamset", "dreamset-stages"
DATASETS, COMPARISONS = "dreamset-datasets", "dreamset-comparisons"
NOTE = "mlflow.note.content"

HOLDS = {
    ROWS: "One row per data set, objective, generation, preset, behaviour settings and seed. A change of any of them "
    "makes a new row; no row is overwritten. Compare rows here.",
    STAGES: "The runs of single stages, with all their curves, files and models. The tag `row` names the row that a "
    "stage belongs to.",
    DATASETS: "One run per ingested data set, with its card and its statistics.",
    COMPARISONS: "One run per comparison of objectives, with its tables and figures.",
}


def experiment(client: Any, name: str, *, embedded_store: bool) -> str:
    """The id of an experiment, which is created if it does not exist. Experiments of this program come together."""
    if name in HOLDS:
        return _described(client, embedded_store)[name]
    return _id(client, name, embedded_store=embedded_store)


@cache
def _described(client: Any, embedded_store: bool) -> dict[str, str]:
    """Name -> id. A description that a person wrote stays."""
    ids = {name: _id(client, name, embedded_store=embedded_store) for name in HOLDS}
    links = " · ".join(f"[{name}](#/experiments/{number})" for name, number in ids.items())
    for name, number in ids.items():
        if not client.get_experiment(number).tags.get(NOTE):
            client.set_experiment_tag(number, NOTE, f"{HOLDS[name]}\n\n{links}")
    return ids


def _id(client: Any, name: str, *, embedded_store: bool) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = (embedded.FOLDER / embedded.ARTIFACTS / name).resolve().as_uri() if embedded_store else None
    return str(client.create_experiment(name, artifact_location=location))
