"""Stage ``compare``: all objectives side by side, in one table and one picture."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, save_with, write_text
from dreamset.pipeline.evaluation.statistics import bootstrap, interquartile_mean
from dreamset.pipeline.files import read_json
from dreamset.pipeline.report import figures
from dreamset.pipeline.stages.table import item_name
from dreamset.pipeline.tracking import reporting

HORIZON = re.compile(r"validation/(?:reward_error|probe_r2)_h(\d+)$")


def run(config: dict[str, Any]) -> None:
    """Writes ``output``; see ``stages.compare`` for the configuration."""
    runs = pd.DataFrame([_run(config, o, s) for o in config["objectives"] for s in config["seeds"]])
    episodes = {o: _returns(config, o) for o in config["objectives"]}
    summary = summarize(runs, episodes, config["evaluation"])
    horizons = against_horizon(runs)
    references = _references(config)
    output = Path(config["output"])
    with replaced_folder(output) as fresh:
        for name, table in (("summary", summary), ("runs", runs), ("horizons", horizons)):
            _write_csv(fresh / f"{name}.csv", table)
        write_text(fresh / "comparison.md", markdown(config, summary, references))
        pooled = {name: np.concatenate(groups) for name, groups in episodes.items()}
        figures.comparison(summary, pooled, horizons, references, fresh / "comparison.png")
    with reporting.stage_run(f"compare {config['dataset']}", experiment=reporting.COMPARISONS) as tracked:
        tracked.artifacts(output)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    save_with(path, lambda beside: table.to_csv(beside, index=False))


def _run(config: dict[str, Any], objective: str, seed: int) -> dict[str, Any]:
    """Every figure of one training, its behaviour and its evaluation."""
    row: dict[str, Any] = {"objective": objective, "seed": seed}
    for stage in ("world_model", "behavior", "evaluation"):
        path = Path(config["runs"]) / stage / item_name(objective, seed) / "metrics.json"
        row |= read_json(path, made_by="dvc repro")
    return row


def _returns(config: dict[str, Any], objective: str) -> list[NDArray[np.float64]]:
    """Returns of every episode, one array per seed of training."""
    groups = []
    for seed in config["seeds"]:
        path = Path(config["runs"]) / "evaluation" / item_name(objective, seed) / "episodes.csv"
        if not path.exists():
            raise UserError(f"{path} does not exist; run `dvc repro` first")
        groups.append(pd.read_csv(path)["return"].to_numpy(np.float64))
    return groups


def summarize(
    runs: pd.DataFrame, episodes: dict[str, list[NDArray[np.float64]]], settings: dict[str, Any]
) -> pd.DataFrame:
    """One row per objective: means over seeds; the return's interval from all episodes of all seeds."""
    rows = []
    for objective, of_objective in runs.groupby("objective", sort=False):
        estimate = bootstrap(
            episodes[str(objective)],
            interquartile_mean,
            confidence=settings["confidence"],
            resamples=settings["resamples"],
        )
        rows.append(
            {
                "objective": objective,
                "seeds": len(of_objective),
                "return_iqm": estimate.value,
                "return_iqm_low": estimate.low,
                "return_iqm_high": estimate.high,
                "return_seed_std": of_objective["evaluation/return_mean"].std(ddof=0),
            }
            | {short: of_objective[name].mean() for name, short in AVERAGED.items() if name in of_objective}
        )
    return pd.DataFrame(rows)


AVERAGED = {
    "evaluation/return_mean": "return_mean",
    "evaluation/normalized_iqm": "normalized_iqm",
    "evaluation/imagined_return": "imagined_return",
    "evaluation/real_return": "real_return",
    "validation/reward_error_h1": "reward_error_h1",
    "validation/reward_error_h5": "reward_error_h5",
    "validation/reward_error_h15": "reward_error_h15",
    "validation/probe_r2": "probe_r2",
    "validation/open_loop_mse": "open_loop_mse",
    "validation/kl": "kl",
    "cost/parameters": "parameters",
    "cost/train_seconds": "train_seconds",
    "cost/behavior_seconds": "behavior_seconds",
}


def against_horizon(runs: pd.DataFrame) -> pd.DataFrame:
    """Long table: objective, seed, horizon, reward_error, probe_r2."""
    rows = []
    for _, run_ in runs.iterrows():
        for horizon in sorted({int(m[1]) for m in map(HORIZON.match, run_.index) if m}):
            probe = "validation/probe_r2" if horizon == 0 else f"validation/probe_r2_h{horizon}"
            rows.append(
                {
                    "objective": run_["objective"],
                    "seed": run_["seed"],
                    "horizon": horizon,
                    "reward_error": run_.get(f"validation/reward_error_h{horizon}", np.nan),
                    "probe_r2": run_.get(probe, np.nan),
                }
            )
    return pd.DataFrame(rows, columns=["objective", "seed", "horizon", "reward_error", "probe_r2"])


def _references(config: dict[str, Any]) -> dict[str, float]:
    """The dataset's mean return and its reference policies', as every model's lineage carries them."""
    folder = Path(config["runs"]) / "world_model" / item_name(config["objectives"][0], config["seeds"][0]) / "model"
    lineage = read_json(folder / "model.json", made_by="dvc repro")["lineage"]
    named = {
        "dataset mean": lineage["dataset_return"]["mean"],
        "low reference": lineage["reference"]["low"],
        "high reference": lineage["reference"]["high"],
    }
    return {name: float(value) for name, value in named.items() if value is not None}


def markdown(config: dict[str, Any], summary: pd.DataFrame, references: dict[str, float]) -> str:
    """The table for people."""
    settings = config["evaluation"]
    head = ["objective", "return (IQM)", f"{100 * settings['confidence']:.0f} % interval", "mean", "normalised"]
    head += ["imagined / real after context", "reward error +1 / +5 / +15", "probe $R^2$", "train + behavior"]
    lines = [f"# {config['dataset']}: objectives compared", "", _line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(row)) for row in summary.to_dict("records")]
    shown = ", ".join(f"{name} {value:.1f}" for name, value in references.items())
    lines += [
        "",
        f"{settings['episodes']} episodes for each of {len(config['seeds'])} training seed(s) {config['seeds']}; "
        f"references: {shown}. Normalised: 0 is the low reference's mean return, 100 the high one's.",
        "",
        "![comparison](comparison.png)",
        "",
    ]
    return "\n".join(lines)


def _cells(row: dict[Any, Any]) -> list[str]:
    def show(name: str, digits: int) -> str:
        value = row.get(name)
        return "-" if value is None or pd.isna(value) else f"{value:.{digits}f}"

    return [
        str(row["objective"]),
        show("return_iqm", 1),
        f"{show('return_iqm_low', 1)} to {show('return_iqm_high', 1)}",
        show("return_mean", 1),
        show("normalized_iqm", 0),
        f"{show('imagined_return', 1)} / {show('real_return', 1)}",
        " / ".join(show(f"reward_error_h{horizon}", 4) for horizon in (1, 5, 15)),
        show("probe_r2", 3),
        f"{show('train_seconds', 0)} s + {show('behavior_seconds', 0)} s",
    ]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
