"""Models as MLflow 3 logs them: the files with a signature, the settings behind them, and their figures as metrics.

Each version in the registry is made from a logged model. A figure is a metric of the run that measured it, linked to
the model: MLflow shows it on the model's page, and as a column of the tab Models.
"""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamset.pipeline.artifacts import migrations
from dreamset.pipeline.artifacts.description import POLICY, SavedModel, read_description
from dreamset.pipeline.tracking import names

DIGEST = "digest"  # tag: of the model's files
VERSIONS = "mlflow.modelVersions"  # tag where MLflow keeps the versions that were registered
FLAVOR = "dreamset"  # MLflow's word for the format of the files
LONGEST_VALUE = 500  # characters of a parameter's value


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs that a model belongs to, by their ids."""

    own: str  # of the stage that made the model
    row: str  # where readers look; the stage's own if it has no row


def log(client: Any, runs: Runs, files: Path, *, kind: str, digest: str, details: Mapping[str, str]) -> Any:
    """The logged model with the files in a folder. A second call for the same row returns the first one.

    Args:
        client: of MLflow.
        runs: the runs of the model. The parameters of the stage are those of the model, too.
        files: folder of the saved model.
        kind: of the model.
        digest: of the files.
        details: further parameters.
    """
    made_by, row = client.get_run(runs.own), client.get_run(runs.row)
    place = [row.info.experiment_id]
    found = client.search_logged_models(place, f"tags.{DIGEST} = '{digest}' and source_run_id = '{runs.row}'")
    if found:
        model = found[0]
    else:
        settings = {name: value[:LONGEST_VALUE] for name, value in {**made_by.data.params, **details}.items()}
        name = _name(kind, details)
        model = client.create_logged_model(*place, name, runs.row, {DIGEST: digest}, settings, kind)
    for run in {runs.own: made_by, runs.row: row}.values():
        _list_among_outputs(client, run, model.model_id)
    if not found or str(model.status) != "READY":
        with tempfile.TemporaryDirectory() as beside:
            whole = Path(shutil.copytree(files, Path(beside) / "model"))
            _mlmodel(read_description(files, made_by="dreamset models list"), model.model_id, runs.row).save(
                str(whole / "MLmodel")
            )
            client.log_model_artifacts(model.model_id, str(whole))
        client.finalize_logged_model(model.model_id, "READY")
    return model


def note_version(client: Any, model: str, name: str, number: int) -> None:
    """Links a registered version from the page of its logged model, as MLflow's server does."""
    client.set_logged_model_tags(model, {VERSIONS: json.dumps([{"name": name, "version": number}])})


def measure(client: Any, run: str, model: str, figures: Mapping[str, float]) -> None:
    """Adds figures to a logged model. A metric that the run has already is linked, and not repeated."""
    from mlflow.entities import Metric

    shown, known = names.stage_metrics(figures), client.get_run(run).data.metrics
    now = 1 + max([int(time.time() * 1000) - 1, *(metric.timestamp for metric in _metrics(client, model))])
    points = []
    for name, value in shown.items():
        history = client.get_metric_history(run, name) if known.get(name) == value else []
        last = max(history, key=lambda point: (point.step, point.timestamp), default=None)
        at, step = (now, 0) if last is None else (last.timestamp, last.step)
        points.append(Metric(name, value, at, step, model_id=model))
    client.log_batch(run, metrics=points)


def figures(client: Any, model: str) -> dict[str, float]:
    """The latest value of each figure of a logged model."""
    latest = sorted(_metrics(client, model), key=lambda metric: metric.timestamp)
    return names.stored_metrics({metric.key: metric.value for metric in latest})


def settings(client: Any, model: str) -> dict[str, str]:
    """The parameters of a logged model: what a person chose, and what the files are."""
    entity = _entity(client, model)
    return {} if entity is None else dict(entity.params or {})


def places(client: Any, run: str, digest: str | None, kind: str | None) -> list[str]:
    """Addresses of the files of the models that a run has made: those with the digest and of the kind, unless None."""
    outputs = client.get_run(run).outputs
    models = [_entity(client, output.model_id) for output in (outputs.model_outputs if outputs else ())]
    return [
        model.artifact_location
        for model in models
        if model and digest in (None, model.tags.get(DIGEST)) and kind in (None, model.model_type)
    ]


def _metrics(client: Any, model: str) -> list[Any]:
    entity = _entity(client, model)
    return [] if entity is None else list(entity.metrics or ())


def _entity(client: Any, model: str) -> Any | None:
    """The logged model; None if a person has deleted it."""
    try:
        return client.get_logged_model(model)
    except Exception as error:  # of MLflow, which takes seconds to import
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _name(kind: str, details: Mapping[str, str]) -> str:
    """``world model · reconstruction · s0``, without the characters that MLflow refuses."""
    name = names.SEPARATOR.join([kind.replace("_", " "), details["objective"], f"s{details['seed']}"])
    return re.sub(r"[/:.%\"']", "-", name)


def _list_among_outputs(client: Any, run: Any, model: str) -> None:
    from mlflow.entities import LoggedModelOutput

    listed = run.outputs.model_outputs if run.outputs else ()
    if model not in {output.model_id for output in listed}:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model, 0)])


def _mlmodel(saved: SavedModel, model: str, run: str) -> Any:
    """MLflow's description of the files, with the signature: what the model takes and what it returns."""
    from mlflow.models import Model, ModelSignature

    inputs, outputs = _arrays(saved)
    return Model(
        run_id=run,
        model_id=model,
        model_uuid=None,
        flavors={FLAVOR: {"kind": saved.kind, "format_version": migrations.FORMAT_VERSION}},
        signature=ModelSignature(inputs=_schema(inputs), outputs=_schema(outputs)),
    )


def _arrays(saved: SavedModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs by name: dtype and shape, where -1 is any number.

    A world model turns batches [episodes, rows] into features. A policy reads the features of its world model.
    """
    features = ("float32", [saved.lineage.get("feature_size", -1)])
    action = ("float32", [saved.spec.action.size])
    if saved.kind == POLICY:
        return {"features": _batched(features, 1)}, {"action": _batched(action, 1)}
    observed = {f"observations/{name}": (array.dtype, array.shape) for name, array in saved.spec.observations.items()}
    inputs = {**observed, "action": action, "is_first": ("bool", [])}
    return {name: _batched(array, 2) for name, array in inputs.items()}, {"features": _batched(features, 2)}


def _batched(array: tuple[str, Any], axes: int) -> tuple[str, tuple[int, ...]]:
    dtype, shape = array
    return dtype, (*[-1] * axes, *shape)


def _schema(arrays: Mapping[str, tuple[str, tuple[int, ...]]]) -> Any:
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(dtype), shape, name) for name, (dtype, shape) in arrays.items()])
