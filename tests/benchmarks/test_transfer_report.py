"""Tables and figure of the transfer benchmark."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite.results import Results
from benchmarks.reports import END, insert
from benchmarks.transfer import report
from benchmarks.transfer.experiments import Benchmark, Curve, Experiment, Start
from benchmarks.transfer.run import COLUMNS, RESULTS
from dreamset.core.errors import UserError


def experiments(start: str, *, share: int = 100, objective: str = "made", updates: tuple[int, ...]) -> list[Experiment]:
    return [Experiment("pair", start, objective, share, number) for number in updates]


SCRATCH, REUSED = experiments("scratch", updates=(10, 40, 80)), experiments("reused", updates=(10, 20))
BENCHMARK = Benchmark(
    common=[],
    source=[],
    pairs={"pair": []},
    baselines=["recorded"],
    starts={"scratch": Start(reuses=False, overrides=[]), "reused": Start(reuses=True, overrides=[])},
    shares={100: []},
    experiments=[
        *SCRATCH,
        *REUSED,
        *experiments("reused", objective="other", updates=(20,)),
        *experiments("scratch", share=5, updates=(40,)),
    ],
    curves=[Curve("pair", "made", "updates", {"share": [100]})],
    objectives=[{"pair": ["pair"], "share": [100], "updates": [20, 40]}],
)
RETURNS = {  # of all episodes of both seeds
    SCRATCH[0]: 50.0,
    SCRATCH[1]: 80.0,
    SCRATCH[2]: 100.0,
    REUSED[0]: 76.0,  # 95 % of 80
    REUSED[1]: 94.9,  # not quite 95 % of 100
}


def hand_made(folder: Path) -> None:
    results = Results(folder, COLUMNS)
    row = {"task": "pair", "settings": "s", "dataset_digest": "d"}
    results.add({**row, "method": "recorded", "seed": 0, "group": "baseline"}, [(7.0, 1)])
    for experiment, total in RETURNS.items():
        for seed in (0, 1):
            measured = {"probe_r2": 0.5 + 0.2 * seed, "world_model_cpu_seconds": 10 * seed, "behavior_cpu_seconds": 3}
            if experiment in REUSED:
                measured["pretraining_cpu_seconds"] = 60
            names = {"method": experiment.name, "seed": seed, "group": experiment.start}
            results.add({**row, **names, **measured}, [(total, 1)] * 4)


def read(folder: Path) -> report.Results:
    hand_made(folder)
    return report.Results.read(folder, BENCHMARK, resamples=5, confidence=0.95)


def test_curve_contains_only_its_experiments(tmp_path: Path) -> None:
    made = read(tmp_path)
    assert made.curve_table(BENCHMARK.curves[0]).splitlines() == [
        "|  | 10 updates | 20 updates | 40 updates | 80 updates |",
        "| --- | --- | --- | --- | --- |",
        "| scratch | 50.0 (50.0 to 50.0) |  | 80.0 (80.0 to 80.0) | 100.0 (100.0 to 100.0) |",
        "| reused | 76.0 (76.0 to 76.0) | 94.9 (94.9 to 94.9) |  |  |",
    ]


def test_budget_is_the_smallest_amount_that_reaches_95_percent(tmp_path: Path) -> None:
    made = read(tmp_path)
    *_, ten, forty, eighty = made.budget_table(BENCHMARK.curves[0]).splitlines()
    assert ten == "| 10 updates | 50.0 (50.0 to 50.0) | 10 updates, 100 % |"
    assert forty == "| 40 updates | 80.0 (80.0 to 80.0) | 10 updates, 25 % |"
    assert eighty == "| 80 updates | 100.0 (100.0 to 100.0) | not reached |"


def test_objective_table_has_gaps_for_missing_runs(tmp_path: Path) -> None:
    made = read(tmp_path)
    table = made.objective_table(lambda experiment: made.mean(experiment, "probe_r2", "{:.2f}"))
    assert table.splitlines() == [
        "|  | pair, scratch | pair, reused |",
        "| --- | --- | --- |",
        "| made | 0.60 | 0.60 |",
        "| other |  |  |",
    ]


def test_costs_are_means_over_seeds_and_only_reuse_has_pretraining(tmp_path: Path) -> None:
    rows = read(tmp_path).cost_table().splitlines()
    assert "| pair | scratch | 100 | 10 |  | 5 | 3 |" in rows
    assert "| pair | reused | 100 | 20 | 60 | 5 | 3 |" in rows


def test_only_text_between_the_marks_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{END}\nafter\n")
    for text in ("new\n", "newer\n"):
        insert(path, text, begin=report.BEGIN)
    assert path.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{END}\nafter\n"
    path.write_text(f"{END} the wrong way round {report.BEGIN}")
    with pytest.raises(UserError, match="lacks"):
        insert(path, "new", begin=report.BEGIN)


def test_report_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_made(tmp_path)
    monkeypatch.setattr(Benchmark, "read", lambda _: BENCHMARK)
    (tmp_path / report.TEXT).write_text(f"{report.BEGIN}{END}")
    report.main(["--results", str(tmp_path), "--output", str(tmp_path), "--resamples", "5"])
    assert "| recorded | 7.0 (7.0 to 7.0) |" in (tmp_path / report.TEXT).read_text()
    assert (tmp_path / report.FIGURE).read_bytes().startswith(b"\x89PNG")


def without_intervals(text: str) -> str:
    """Removes intervals, which would need the resamples of the committed report."""
    return re.sub(r" \(\S+ to \S+\)", "", text)


def test_report_shows_the_committed_numbers() -> None:
    benchmark = Benchmark.read()
    results = report.Results.read(RESULTS, benchmark, resamples=2, confidence=0.95)
    tables = (report.FOLDER / report.TEXT).read_text().partition(report.BEGIN)[2].partition(END)[0]
    assert without_intervals(tables.strip()) == without_intervals(results.markdown(confidence=0.95).strip())
    seeds = results.runs[results.runs["group"] != "baseline"].groupby(["task", "method"])["seed"].nunique()
    assert set(seeds.index) == {(experiment.pair, experiment.name) for experiment in benchmark.experiments}
    assert (seeds >= 3).all()
    digests = {
        (experiment.pair, experiment.name): benchmark.settings_digest(experiment)
        for experiment in benchmark.experiments
    }
    kept = results.runs.set_index(["task", "method"])["settings"]
    assert all(kept.loc[key].eq(settings).all() for key, settings in digests.items())
