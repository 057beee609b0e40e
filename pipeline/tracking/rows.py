"""The rows of the experiment ``dreamset``: which one a stage belongs to, and what it holds.

A row is one flat MLflow run for a world model, the behaviour that was learned in it, its fine-tuning and its
evaluation. A row is never overwritten. A stage joins the latest row of its world model that has no such stage yet.
Otherwise it forks: a new row gets the parameters and metrics of the earlier stages, and the new stage is recorded
there.

The tag ``RECORDS`` of a row says which stages are recorded, as json. It is written last, so a delivery that is
killed repeats its last step and ends with the same rows.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from dreamset.pipeline.tracking import names, notes
from dreamset.pipeline.tracking.place import LINEAGE, tags_of

ROW = "dreamset.row"  # tag of a stage's run: the id of its row
# Tags that MLflow's pages hide because of their prefix:
RECORDS = "mlflow.dreamset.stages"  # the records of a row's stages
STAGES_AT = "mlflow.dreamset.stages_experiment"  # id of the experiment of stage runs
IDENTITY = "mlflow.dreamset.identity"  # the choices behind a row's name
LARGEST_BATCH = 1000  # metrics in one request: the most that MLflow accepts
SHARED_FOLDERS = {"media", "settings"}  # artifacts that a stage's run and its row have in common
UNFINISHED = ("FAILED", "KILLED")

# stage -> the stages whose results it needs, in their order
NEEDS = {
    "train_world_model": (),
    "learn_behavior": ("train_world_model",),
    "finetune": ("train_world_model", "learn_behavior"),
    "evaluate": ("train_world_model", "learn_behavior"),
}


@dataclass(frozen=True, slots=True)
class Record:
    """A stage that is recorded on a row."""

    key: str
    by: str  # the outbox file that recorded it
    base: str | None = None  # the row that this one was forked from for the stage
    runs: Mapping[str, float] = field(default_factory=dict)  # runs of the stage -> their seconds
    status: str = "RUNNING"
    model: str | None = None  # digest of the model that the stage saved
    version: str | None = None  # of that model in the registry
    overrides: Sequence[str] = ()
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its records, by stage."""

    run: Any  # of MLflow
    records: Mapping[str, Record]

    @classmethod
    def of(cls, run: Any) -> Self:
        """The row in a run of MLflow."""
        plain = json.loads(run.data.tags[RECORDS])
        return cls(run, {stage: Record(**record) for stage, record in plain.items()})

    @property
    def id(self) -> str:
        """Of its run."""
        return str(self.run.info.run_id)

    def model(self, stage: str) -> str | None:
        """Digest of the model that a stage saved; None if it is unknown."""
        record = self.records.get(stage)
        return None if record is None else record.model

    def has(self, wanted: Mapping[str, Any]) -> bool:
        """Whether a stage with the same settings and inputs is recorded."""
        record = self.records.get(wanted["stage"])
        return record is not None and record.key == wanted["key"]

    def is_free_for(self, stage: str) -> bool:
        """Whether neither the stage nor one that needs it is recorded."""
        return not any(recorded == stage or stage in NEEDS[recorded] for recorded in self.records)


def place(client: Any, experiment: str, wanted: Mapping[str, Any], *, run: str, by: str, at: int) -> str:
    """Records a stage on its row, which is found, forked or created, and returns the id of the row.

    Args:
        client: of MLflow.
        experiment: id of the experiment of rows.
        wanted: the plain values of a ``Place``.
        run: id of the stage's own run.
        by: name of the outbox file. A second call with it changes nothing.
        at: when the stage began, in ms since 1970.
    """
    stage, rows = wanted["stage"], of_lineage(client, experiment, wanted["lineage"])
    row = next((row for row in rows if stage in row.records and row.records[stage].by == by), None)
    row = row or _existing(rows, wanted) or _created(client, experiment, rows, wanted, by=by, at=at)
    base = row.records[stage].base if stage in row.records else None
    records = dict(row.records)
    if base is not None:
        records |= _copied(client, Row.of(client.get_run(base)), row.id, wanted)
    before = records.get(stage)
    records[stage] = Record(
        key=wanted["key"],
        by=by,
        base=base,
        runs={**(before.runs if before else {}), run: 0.0},
        overrides=wanted["overrides"],
        command=wanted["command"],
    )
    client.set_tag(run, ROW, row.id)
    _describe(client, experiment, Row(row.run, records), wanted)
    return row.id


def of_lineage(client: Any, experiment: str, lineage: str) -> list[Row]:
    """The rows of a world model, the latest first."""
    runs = client.search_runs([experiment], f"tags.`{LINEAGE}` = '{lineage}'", order_by=["start_time DESC"])
    return [Row.of(run) for run in runs if RECORDS in run.data.tags]


def update(client: Any, row_id: str, stage: str, **changes: Any) -> None:
    """Changes the record of a stage."""
    row = Row.of(client.get_run(row_id))
    records = {**row.records, stage: replace(row.records[stage], **changes)}
    client.set_tag(row_id, RECORDS, _json(records))


def finish(client: Any, row_id: str, stage: str, run: str, status: str) -> None:
    """Ends a stage on its row. The row's duration is the sum of those of its stages; its status is that of the last."""
    row, info = Row.of(client.get_run(row_id)), client.get_run(run).info
    record = row.records[stage]
    seconds = (info.end_time - info.start_time) / 1000
    update(client, row_id, stage, runs={**record.runs, run: seconds}, status=status)
    row = Row.of(client.get_run(row_id))
    total = sum(sum(record.runs.values()) for record in row.records.values())
    client.set_terminated(row_id, status, row.run.info.start_time + round(1000 * total))
    refresh_note(client, row_id)


def refresh_note(client: Any, row_id: str) -> None:
    """Writes the description of a row from its metrics, tags and records."""
    row = Row.of(client.get_run(row_id))
    base_id = next((record.base for record in row.records.values() if record.base), None)
    base = None if base_id is None else client.get_run(base_id)
    client.set_tag(row_id, "mlflow.note.content", notes.of_row(row.run, row.records, base))


def _existing(rows: Sequence[Row], wanted: Mapping[str, Any]) -> Row | None:
    """The row that the stage continues or joins; None if it needs a new one."""
    stage = wanted["stage"]
    same = [row for row in rows if row.has(wanted)]
    if wanted["resumed"]:
        return same[0] if same else _free(rows, wanted)
    if not NEEDS[stage]:
        return None
    retried = [row for row in same if row.records[stage].status in UNFINISHED]
    return retried[0] if retried else _free(rows, wanted)


def _free(rows: Sequence[Row], wanted: Mapping[str, Any]) -> Row | None:
    if not NEEDS[wanted["stage"]]:
        return None
    free = [row for row in _based(rows, wanted) if row.is_free_for(wanted["stage"])]
    return free[0] if free else None


def _based(rows: Sequence[Row], wanted: Mapping[str, Any]) -> list[Row]:
    """Rows whose models are those that the stage uses. A model that a row does not know may be any."""
    rows = [row for row in rows if row.model("train_world_model") in (None, wanted["world_model"])]
    if wanted["policy"] is None:
        return rows
    exact = [row for row in rows if row.model("learn_behavior") == wanted["policy"]]
    return exact or [row for row in rows if row.model("learn_behavior") is None]


def _created(client: Any, experiment: str, rows: Sequence[Row], wanted: Mapping[str, Any], *, by: str, at: int) -> Row:
    """A new row: a fork of the latest one with the same models, or an empty one."""
    stage = wanted["stage"]
    bases = _based(rows, wanted) or rows if NEEDS[stage] else []
    base = bases[0] if bases else None
    shared = {} if base is None else _shared(base, wanted)
    begin = at - round(1000 * sum(sum(record.runs.values()) for record in shared.values()))
    records = {stage: Record(wanted["key"], by, base=base.id if base is not None and shared else None)}
    tags = {LINEAGE: wanted["lineage"], RECORDS: _json(records)}
    run = client.create_run(experiment, start_time=begin, run_name=wanted["lineage"], tags=tags)
    return Row(run, records)


def _shared(base: Row, wanted: Mapping[str, Any]) -> dict[str, Record]:
    """The records of the base that a fork shares: the earlier stages, unless their model is another one."""
    used = {"train_world_model": wanted["world_model"], "learn_behavior": wanted["policy"]}
    return {
        stage: base.records[stage]
        for stage in NEEDS[wanted["stage"]]
        if stage in base.records and base.model(stage) in (None, used[stage])
    }


def _copied(client: Any, base: Row, target: str, wanted: Mapping[str, Any]) -> dict[str, Record]:
    """Copies what the shared stages reported to a fork; a second copy changes nothing."""
    from mlflow.entities import Param

    shared = _shared(base, wanted)
    runs = [client.get_run(run) for record in shared.values() for run in record.runs]
    known = set(names.FIRST).union(*(run.data.params for run in runs))
    values = [Param(name, value) for name, value in base.run.data.params.items() if name in known]
    client.log_batch(target, params=values)
    measured = set[str]().union(*(names.row_metrics(run.data.metrics) for run in runs)) & set(base.run.data.metrics)
    for name in sorted(measured):
        if not name.startswith("system/"):
            history = client.get_metric_history(base.id, name)
            for start in range(0, len(history), LARGEST_BATCH):
                client.log_batch(target, metrics=history[start : start + LARGEST_BATCH])
    if base.run.inputs.dataset_inputs:
        client.log_inputs(target, base.run.inputs.dataset_inputs)
    for run in runs:
        _copy_files(client, run.info.run_id, target)
    return shared


def _copy_files(client: Any, source: str, target: str) -> None:
    """Copies the files of a stage's run that its row has, too. The model stays with the stage."""
    listed = {item.path for item in client.list_artifacts(source)}
    for folder in SHARED_FOLDERS & listed:
        with tempfile.TemporaryDirectory() as local:
            client.log_artifacts(target, client.download_artifacts(source, folder, local), folder)


def _describe(client: Any, experiment: str, row: Row, wanted: Mapping[str, Any]) -> None:
    """Sets parameters, name, tags and status of a row on which a stage begins."""
    from mlflow.entities import Param, RunTag

    identity = _identity(client, row, wanted)
    records = {stage: row.records[stage] for stage in NEEDS if stage in row.records}
    preset = wanted["identity"]["preset"]
    if preset not in (None, identity["preset"]):  # another preset than that of the world model
        last = records[wanted["stage"]]
        records[wanted["stage"]] = replace(last, overrides=[f"preset={preset}", *last.overrides])
    overrides = list(dict.fromkeys(text for record in records.values() for text in record.overrides))
    parameters = [Param(name, str(identity[name])) for name in names.FIRST if identity[name] is not None]
    tags = {
        **wanted["tags"],
        **tags_of({**wanted, "identity": identity}),
        "dataset_digest": wanted["dataset_digest"],
        IDENTITY: json.dumps(identity),
        STAGES_AT: wanted["stages_at"],
        "mlflow.runColor": _color(client, experiment, str(identity["objective"])),
    }
    client.log_batch(row.id, params=parameters, tags=[RunTag(key, value) for key, value in tags.items() if value])
    name = _unused(client, experiment, names.row_name(identity, overrides), row.id)
    client.update_run(row.id, status="RUNNING", name=name)
    for run in [run for record in records.values() for run in record.runs]:
        if client.get_run(run).data.tags.get(ROW) == row.id:  # not that of a shared stage
            client.set_tag(run, "row", name)
    client.set_tag(row.id, RECORDS, _json(records))
    refresh_note(client, row.id)


def _identity(client: Any, row: Row, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The choices behind the row: those of its first stage, which may be on the row that it was forked from."""
    base = row.records[wanted["stage"]].base
    known = row.run.data.tags.get(IDENTITY)
    if known is None and base is not None:
        known = client.get_run(base).data.tags.get(IDENTITY)
    identity = json.loads(known) if known else wanted["identity"]
    return {**identity, "fine_tuned": wanted["identity"]["fine_tuned"] or "finetune" in row.records}


def _unused(client: Any, experiment: str, name: str, row_id: str) -> str:
    """The name, or with a number if another row has it."""
    number = 1
    while True:
        candidate = name if number == 1 else f"{name} ({number})"
        found = client.search_runs([experiment], f'attributes.run_name = "{candidate}"')
        if all(run.info.run_id == row_id for run in found):
            return candidate
        number += 1


def _color(client: Any, experiment: str, objective: str) -> str:
    """The colour of an objective in the figures. MLflow itself chooses colours by run, often the same one twice."""
    from dreamset.pipeline.report.style import series_style  # loads Matplotlib

    runs = client.search_runs([experiment], order_by=["start_time ASC"])
    seen = dict.fromkeys(run.data.tags["objective"] for run in runs if "objective" in run.data.tags)
    return series_style([*dict.fromkeys([*seen, objective])].index(objective)).color


def _json(records: Mapping[str, Record]) -> str:
    return json.dumps({stage: asdict(record) for stage, record in records.items()})
