"""Stage ``compare``: all objectives in one table and one figure."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dreamset.core.files import replaced_folder, save_with, write_text
from dreamset.datasets import Store
from dreamset.datasets.summary import facts, has_no_rewards
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, coverage_note, interquartile_mean
from dreamset.pipeline.files import read_json, write_json
from dreamset.pipeline.report import advice, comparison_figure, origin
from dreamset.pipeline.report.calibration import Calibration
from dreamset.pipeline.report.comparison import Comparison, error_horizons, reward_terms
from dreamset.pipeline.report.headline import interval_of, known, records
from dreamset.pipeline.report.metrics import label
from dreamset.pipeline.report.page.report import comparison_page
from dreamset.pipeline.report.result import RESULT, short_lines
from dreamset.pipeline.report.showing import shown, write_blank
from dreamset.pipeline.report.words import number
from dreamset.pipeline.stages.settings import Compare
from dreamset.pipeline.stages.table import run_key
from dreamset.pipeline.tracking import labels, reporting

Returns = list[NDArray[np.float64]]  # of every episode, one array per training seed

FIGURES = {"light": "comparison.png", "dark": "comparison_dark.png"}  # scheme -> file
QUARTERS = ("q1", "q2", "q3", "q4")  # of the rows by reward, the lowest first
HORIZON = re.compile(r"validation/(?:reward_error|probe_r2)_h(\d+)$")


def run(config: dict[str, Any]) -> list[str]:
    """Writes ``output`` and returns the winner for the terminal; ``Compare`` describes the settings."""
    settings = Compare.of(**config)
    runs = read_runs(settings)
    comparison = comparison_of(settings, runs)
    output = Path(settings.output)
    write(output, settings, comparison, runs)
    draw(output, comparison)
    with reporting.stage_run(f"compare {settings.dataset}", experiment=reporting.COMPARISONS) as tracked:
        tracked.settings("compare", settings)
        tracked.note(markdown(settings, comparison.summary, comparison.references).partition("![")[0])
        tracked.artifacts(output)
    return short_lines(output)


def read_runs(settings: Compare) -> pd.DataFrame:
    """One row of metrics for each training."""
    return pd.DataFrame(
        [read_metrics(settings, objective, seed) for objective in settings.objectives for seed in settings.seeds]
    )


def comparison_of(settings: Compare, runs: pd.DataFrame) -> Comparison:
    """Everything that tables, figures and the page show, from the results of the earlier stages."""
    returns = {objective: read_returns(settings, objective) for objective in settings.objectives}
    lineages = read_lineages(settings)
    store = None if settings.store is None else Store.open(settings.store)
    chosen = labels.current()
    return Comparison(
        dataset=settings.dataset,
        preset=chosen.choices.get("preset"),
        seeds=settings.seeds,
        evaluation=settings.evaluation,
        summary=summarize(runs, returns, settings.evaluation),
        horizons=against_horizon(runs),
        returns=returns,
        references=references_of(next(iter(lineages.values()))),
        runs=Path(settings.runs),
        card=None if settings.dataset_card is None else Path(settings.dataset_card),
        data=[] if store is None else facts(store),
        rewarded=store is None or not has_no_rewards(store),
        different_settings=settings.different_settings,
        calibration={objective: read_calibration(settings, objective) for objective in settings.objectives},
        origin=origin.facts(chosen, lineages, settings.code),
        commands=origin.commands(settings.dataset, chosen, settings.objectives, settings.seeds),
    )


def write(output: Path, settings: Compare, comparison: Comparison, runs: pd.DataFrame) -> None:
    """The tables, the headline figures, and blanks in place of what ``draw`` makes."""
    tables = {"summary": comparison.summary, "runs": runs, "horizons": comparison.horizons}
    with replaced_folder(output) as folder:
        for name, table in tables.items():
            _write_csv(folder / f"{name}.csv", table)
        write_text(folder / "comparison.md", markdown(settings, comparison.summary, comparison.references))
        for objective, figures in headlines(comparison).items():  # a file each: a row each in `dvc metrics show`
            write_json(folder / f"metrics/{objective}.json", figures)
        write_json(folder / RESULT, result_of(comparison))
        for name in FIGURES.values():
            write_blank(folder / name)
        write_text(folder / "report.html", "")


def draw(output: Path, comparison: Comparison) -> None:
    """The figures and the page."""
    for scheme, name in FIGURES.items():
        with shown(output / name):
            comparison_figure.draw(comparison, output / name, scheme=scheme)
    with shown(output / "report.html"):
        write_text(output / "report.html", comparison_page(comparison, output / "report.html"))


def headlines(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """The few figures by which objectives are compared at first sight, for `dvc metrics show`."""
    names = ("return_iqm", comparison.reward_error, "probe_r2")
    return {
        str(row["objective"]): {
            name: round(row[name], 4) if known(row, name) else None for name in names if name in row
        }
        for row in comparison.rows()
    }


def result_of(comparison: Comparison) -> dict[str, Any]:
    """What the terminal says beside the table of figures."""
    return {
        "title": comparison.title,
        "interval": comparison.interval,
        "winner": advice.winner(comparison),
        "caveats": advice.caveats(comparison),
        "hints": advice.hints(comparison),
        "exploited": advice.exploited(comparison),
    }


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    save_with(path, lambda beside: table.to_csv(beside, index=False))


def read_metrics(settings: Compare, objective: str, seed: int) -> dict[str, Any]:
    """The metrics of one training and, if they exist, of its behaviour and its evaluation. A null figure is NaN."""
    row: dict[str, Any] = {"objective": objective, "seed": seed}
    for stage in ("world_model", "behavior", "evaluation"):
        path = Path(settings.runs) / stage / run_key(objective, seed) / "metrics.json"
        if stage == "world_model" or path.exists():
            row |= read_json(path, made_by="dvc repro")
    return {name: np.nan if value is None else value for name, value in row.items()}


def read_returns(settings: Compare, objective: str) -> Returns:
    """The returns of all episodes of one objective, an array for each seed that was evaluated."""
    paths = [Path(settings.runs) / "evaluation" / run_key(objective, seed) / "episodes.csv" for seed in settings.seeds]
    measured = [pd.read_csv(path)["return"].to_numpy(np.float64) for path in paths if path.exists()]
    return [returns for returns in measured if len(returns)]  # none without an environment


def read_calibration(settings: Compare, objective: str) -> Calibration:
    """The calibration of one objective's world models."""
    return Calibration.read([Path(settings.runs) / "world_model" / run_key(objective, seed) for seed in settings.seeds])


def summarize(runs: pd.DataFrame, returns: Mapping[str, Returns], settings: Evaluation) -> pd.DataFrame:
    """One row per objective: means over seeds, and the interval of the return over all episodes of all seeds."""
    rows = []
    averaged = {name: short for name, short in _averaged(runs).items() if name in runs}
    for objective, of_objective in runs.groupby("objective", sort=False):
        estimate = _estimate(returns[str(objective)], settings)
        measured = of_objective.get("evaluation/return_mean", pd.Series(dtype=float))
        rows.append(
            {
                "objective": objective,
                "seeds": len(of_objective),
                "return_iqm": estimate.value,
                "return_iqm_low": estimate.low,
                "return_iqm_high": estimate.high,
                "return_seed_std": measured.std(ddof=0),
            }
            | {short: of_objective[name].mean() for name, short in averaged.items()}
        )
    return pd.DataFrame(rows)


def _estimate(returns: Returns, settings: Evaluation) -> Estimate:
    """The interquartile mean with its interval; NaN without an episode."""
    if not returns:
        return Estimate(np.nan, np.nan, np.nan)
    confidence, resamples = settings.confidence, settings.resamples
    return bootstrap(returns, interquartile_mean, confidence=confidence, resamples=resamples)


def _averaged(runs: pd.DataFrame) -> dict[str, str]:
    """The figures of each training that are averaged over seeds: name -> column of the summary."""
    horizons = sorted({int(match[1]) for match in map(HORIZON.match, map(str, runs.columns)) if match} - {0})
    errors = {f"validation/reward_error_h{horizon}": f"reward_error_h{horizon}" for horizon in horizons}
    return AVERAGED | errors | {name: name for name in reward_terms(runs)}


AVERAGED = {
    "evaluation/return_mean": "return_mean",
    "evaluation/success_rate": "success_rate",
    "evaluation/normalized_mean": "normalized_mean",
    "evaluation/imagined_return": "imagined_return",
    "evaluation/real_return": "real_return",
    "validation/probe_r2": "probe_r2",
    **{f"validation/probe_correlation_reward_{quarter}": f"probe_correlation_reward_{quarter}" for quarter in QUARTERS},
    "validation/open_loop_mse": "open_loop_mse",
    "validation/kl": "kl",
    "cost/parameters": "parameters",
    "cost/train_seconds": "train_seconds",
    "cost/behavior_seconds": "behavior_seconds",
    "cost/decision_milliseconds": "decision_milliseconds",
    "cost/decision_episodes": "decision_episodes",
}


def against_horizon(runs: pd.DataFrame) -> pd.DataFrame:
    """A long table of the figures at each horizon: objective, seed, horizon, reward_error, probe_r2."""
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


def read_lineages(settings: Compare) -> dict[str, dict[str, Any]]:
    """The lineage of every world model, by run key."""
    keys = [run_key(objective, seed) for objective in settings.objectives for seed in settings.seeds]
    paths = {key: Path(settings.runs) / "world_model" / key / "model/model.json" for key in keys}
    return {key: read_json(path, made_by="dvc repro")["lineage"] for key, path in paths.items()}


def references_of(lineage: Mapping[str, Any]) -> dict[str, float]:
    """The mean return of the dataset and of its reference policies, from the lineage of a world model."""
    named = {
        "dataset mean": lineage["dataset_return"]["mean"],
        "low reference": lineage["reference"]["low"],
        "high reference": lineage["reference"]["high"],
    }
    return {name: float(value) for name, value in named.items() if value is not None}


def markdown(settings: Compare, summary: pd.DataFrame, references: Mapping[str, float]) -> str:
    """The comparison as a Markdown table, with the number of episodes and the references."""
    evaluation = settings.evaluation
    horizons = error_horizons(summary)
    head = ["objective", "return (IQM)", f"{100 * evaluation.confidence:.0f} % interval", "mean", "normalised"]
    errors = " / ".join(f"+{horizon}" for horizon in horizons)
    head += ["imagined / real after context", f"reward error {errors}".rstrip(), "probe $R^2$"]
    head += ["probe correlation by reward, q1 / q2 / q3 / q4", "train + behavior"]
    lines = [f"# {settings.dataset}: objectives compared", "", _line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(row, horizons)) for row in summary.to_dict("records")]
    listed = ", ".join(f"{name} {value:.1f}" for name, value in references.items())
    lines += [
        "",
        f"{evaluation.episodes} episodes for each of {len(settings.seeds)} training seed(s) {settings.seeds}; "
        f"references: {listed}. Normalised: the mean return on a scale where 0 is the low reference's mean return and "
        "100 the high one's. By reward: the correlation of the probe with the truth in each quarter of the held-out "
        "rows, q4 with the highest rewards.",
        "",
        *_terms(summary),
        *([note, ""] if (note := coverage_note(len(settings.seeds))) else []),
        "[The report](report.html) has curves, videos and reading help.",
        "",
        "![comparison](comparison.png)",
        "",
    ]
    return "\n".join(lines)


def _terms(summary: pd.DataFrame) -> list[str]:
    """A line for each term of the reward; none if the reward has one term only."""
    names = reward_terms(summary)
    if not names:
        return []
    lines = [
        f"- {label(name)}: " + ", ".join(f"{row['objective']} {number(row[name], 4)}" for row in records(summary))
        for name in names
    ]
    return ["Terms of the reward per imagined step:", "", *lines, ""]


def _cells(row: dict[Any, Any], horizons: Sequence[int]) -> list[str]:
    def figure(name: str, digits: int) -> str:
        return number(row.get(name), digits)

    return [
        str(row["objective"]),
        figure("return_iqm", 1),
        interval_of(row),
        figure("return_mean", 1),
        figure("normalized_mean", 0),
        f"{figure('imagined_return', 1)} / {figure('real_return', 1)}",
        " / ".join(figure(f"reward_error_h{horizon}", 4) for horizon in horizons) or "-",
        figure("probe_r2", 3),
        " / ".join(figure(f"probe_correlation_reward_{quarter}", 2) for quarter in QUARTERS),
        f"{figure('train_seconds', 0)} s + {figure('behavior_seconds', 0)} s",
    ]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
