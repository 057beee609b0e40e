"""The descriptions of runs in MLflow, in Markdown: the result, where to look, and how to repeat it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dreamset.pipeline.report.exploitation import REMEDY, is_exploited
from dreamset.pipeline.report.metrics import METRICS, label, metric

if TYPE_CHECKING:
    from dreamset.pipeline.tracking.rows import Record

# stage -> what it is called, and which of the run's files show its result
SHOWN = {
    "train_world_model": ("world model", "`media/world_model`: open-loop predictions beside the truth"),
    "learn_behavior": ("behaviour", ""),
    "finetune": ("fine-tuning", "`media/finetuning`: the policy after fine-tuning; `curve.png`: all evaluations"),
    "evaluate": ("evaluation", "`media/evaluation`: the policy in the environment"),
}


def of_row(run: Any, records: Mapping[str, "Record"], base: Any | None) -> str:
    """The description of a row.

    Args:
        run: of MLflow.
        records: of its stages.
        base: the run from which it was forked, or None.
    """
    tags, metrics = run.data.tags, run.data.metrics
    sections = [headline(metrics), exploitation(metrics), _stages(run, records, base)]
    shown = [place for stage in records if (place := SHOWN[stage][1])]
    sections += [_list("**Look at** (tab Artifacts)", [*shown, "`settings`: all settings of each stage"])]
    data = f"**Data:** {tags.get('dataset', '?')}, digest `{tags.get('dataset_digest', '?')[:12]}`"
    versions = [f"[{record.version}]({_version_page(record.version)})" for record in records.values() if record.version]
    overrides = list(dict.fromkeys(text for record in records.values() for text in record.overrides))
    sections += [
        data,
        f"**Registered:** {', '.join(versions)}" if versions else "",
        f"**Differs from the preset:** {', '.join(f'`{text}`' for text in overrides)}" if overrides else "",
        reproduction([record.command for record in records.values()], tags),
    ]
    return "\n\n".join(section for section in sections if section)


def of_run(lines: Sequence[str], tags: Mapping[str, str], command: str | None) -> str:
    """The description of a run that is no row: a data set or a comparison."""
    return "\n\n".join(section for section in [*lines, reproduction([command], tags)] if section)


def headline(metrics: Mapping[str, float]) -> str:
    """The figures by which rows are compared, in one line; the return with its interval."""
    shown = []
    order = {described: number for number, described in enumerate(METRICS)}
    for name, value in sorted(metrics.items(), key=lambda item: order.get(metric(item[0]), len(order))):
        described = metric(name)
        if "/" in name and described.headline:
            text = f"{label(name)} **{value:.{described.digits}f}**"
            bounds = [metrics.get(f"{name}_{bound}") for bound in ("low", "high")]
            if None not in bounds:
                text += f" (interval {bounds[0]:.{described.digits}f} to {bounds[1]:.{described.digits}f})"
            shown.append(text)
    return " · ".join(shown)


def exploitation(metrics: Mapping[str, float]) -> str:
    """A warning if the policy promises itself far more in imagination than it gets; else empty."""
    imagined, real = metrics.get("evaluation/imagined_return"), metrics.get("evaluation/real_return")
    if imagined is None or real is None or not is_exploited(imagined, real, abs(real)):
        return ""
    return f"The imagined return is far above the real one. {REMEDY}"


def reproduction(commands: Sequence[str | None], tags: Mapping[str, str]) -> str:
    """The commands that repeat a run, and the commit of the working folder."""
    known = list(dict.fromkeys(command for command in commands if command))
    whole = [command for command in known if command.startswith("dvc ")]
    known = [command for command in known if command not in whole[:-1]]  # one command runs all stages
    parts = ["**Reproduce:**\n\n```\n" + "\n".join(known) + "\n```"] if known else []
    if "commit" in tags:
        dirty = " with changes that are not committed" if tags.get("dirty") == "true" else ""
        parts.append(f"**Commit:** `{tags['commit'][:12]}`{dirty}")
    return "\n\n".join(parts)


def _stages(run: Any, records: Mapping[str, "Record"], base: Any | None) -> str:
    """One line per stage with its duration and its own run, and the row that shares the earlier stages."""
    lines = []
    for stage, record in records.items():
        seconds = sum(record.runs.values())
        status = f"{seconds:.3g} s" if record.status == "FINISHED" else record.status.lower()
        last = list(record.runs)[-1] if record.runs else None
        name = SHOWN[stage][0]
        link = name if last is None else f"[{name}](#/experiments/{_stages_experiment(run)}/runs/{last})"
        lines.append(f"{link}: {status}")
    shared = "" if base is None else f"\n\nThe earlier stages are those of {_link(base)}: their results are shared."
    return _list("**Stages**", lines) + shared


def _stages_experiment(run: Any) -> str:
    return str(run.data.tags.get("mlflow.dreamset.stages_experiment", run.info.experiment_id))


def _link(run: Any) -> str:
    return f"[{run.info.run_name}](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"


def _version_page(reference: str) -> str:
    name, _, number = reference.rpartition("/")
    return f"#/models/{name}/versions/{number}"


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *(f"- {line}" for line in lines)])
