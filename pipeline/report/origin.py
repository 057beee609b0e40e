"""How a comparison was made, for its page: data, models, code and the commands that make it again.

Nothing here depends on the time of day, so equal results of the same commit give equal pages.
"""

from collections.abc import Mapping, Sequence

from dreamset.pipeline.tracking import place
from dreamset.pipeline.tracking.labels import Labels

SHORT = 12  # characters of a digest

Fact = tuple[str, str]


def facts(labels: Labels, lineages: Mapping[str, Mapping[str, object]], code: str | None) -> list[Fact]:
    """Label and text of each fact.

    Args:
        labels: the choices of a person.
        lineages: of the world models, by run key.
        code: digest of the code of the stage ``compare``.
    """
    data = sorted({str(lineage["dataset_digest"])[:SHORT] for lineage in lineages.values()})
    models = ", ".join(f"{key} ({lineage['key']})" for key, lineage in lineages.items())
    rows = [
        ("generation", ", ".join(sorted({str(lineage["generation"]) for lineage in lineages.values()}))),
        ("overrides", ", ".join(labels.overrides) or "none"),
        ("data", f"{', '.join(data)}: digest of the store"),
        ("world models", f"{models}: each key is a digest of settings, code and data"),
    ]
    commit = place.commit().get("commit")
    if commit is not None:
        rows.append(("commit", f"{commit}: of the working folder; later edits show in the digests of code only"))
    if code is not None:
        rows.append(("code", f"{code[:SHORT]}: digest of the code of this comparison"))
    return rows


def commands(dataset: str, labels: Labels, objectives: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The commands that make the comparison again in a clone or a project with its data."""
    commit = place.commit().get("commit")
    preset = labels.choices.get("preset")
    choices = [
        *([f"preset={preset}"] if preset else []),
        f"dataset={dataset}",
        f"objectives=[{','.join(objectives)}]",
        f"seeds=[{','.join(map(str, seeds))}]",
    ]
    repeat = place.experiment(choices, labels.overrides)
    return [*([f"git checkout {commit}"] if commit else []), repeat, "dreamset results"]
