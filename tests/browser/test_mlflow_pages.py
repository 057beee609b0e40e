"""What a person sees in MLflow after a small pipeline: one row per experiment, and what leads to its result."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamset.pipeline.registry import retrieval
from dreamset.pipeline.tracking import experiments, ui, views

pytestmark = pytest.mark.slow
ROWS = ["pendulum_state · reconstruction · tiny · s0", "pendulum_state · reward_only · tiny · s0"]


@pytest.fixture(scope="module")
def pages(project: Path) -> Iterator[ui.Pages]:
    """The addresses of ``dreamset ui``, whose server runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
            patch.setenv(name, "")  # restored afterwards
            patch.delenv(name)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        found = ui.prepare(port)
        with ui.serving(found):
            yield found


@pytest.fixture
def addresses(pages: ui.Pages) -> dict[str, str]:
    """Name -> address, as ``dreamset ui`` prints them."""
    return dict(line.split() for line in pages.text.splitlines())


@pytest.fixture
def runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The runs of the experiments, by the experiment's name."""
    monkeypatch.chdir(project)
    with retrieval.connection() as client:
        known = {name: client.get_experiment_by_name(name).experiment_id for name in experiments.HOLDS}
        return {name: client.search_runs([number]) for name, number in known.items()}


def artifact(pages: ui.Pages, run: Any, path: str) -> str:
    return f"{pages.base}/dreamset/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/{path}"


def test_table_has_one_row_per_experiment_with_its_name_and_headline_columns(
    browser: Any, addresses: dict[str, str]
) -> None:
    browser.open(addresses["rows"], width=2200)  # MLflow draws only the columns that fit
    browser.shows(*ROWS, "2 matching runs")
    names = [element.text for element in browser.elements("[role=row] a") if "pendulum_state" in element.text]
    assert sorted(names) == ROWS
    assert not browser.elements("[role=row] [aria-label*=expand i]")  # no parents with children
    headers = sorted(browser.elements("[role=columnheader]"), key=lambda header: header.location["x"])
    columns = [header.text for header in headers]
    shown = [re.sub(r".*`(.*)`", r"\1", column) for column in views.COLUMNS]
    assert list(dict.fromkeys(column for column in columns if column in shown))[:3] == [
        "comparison/return_iqm",
        "comparison/reward_error_h15",
        "comparison/probe_r2",
    ]


def test_no_assistant_and_no_notice_on_usage_data_cover_the_results(
    browser: Any, pages: ui.Pages, addresses: dict[str, str]
) -> None:
    browser.open(addresses["rows"])
    browser.shows(*ROWS)
    assert "Assistant" not in browser.text
    browser.open(f"{pages.base}/#/?workflowType=machine_learning")
    browser.shows("dreamset-comparisons")
    assert "usage data" not in browser.text


def test_first_section_of_the_charts_is_the_headline(browser: Any, addresses: dict[str, str]) -> None:
    browser.open(addresses["charts"])
    browser.shows("comparison/return_iqm", "validation")
    sections = re.findall(r"^(comparison|evaluation|imagination|validation|workload)$", browser.text, re.MULTILINE)
    assert sections[0] == "comparison"
    assert sections.index("workload") > sections.index("validation")


def test_page_of_a_row_shows_its_note(browser: Any, pages: ui.Pages, runs: dict[str, list[Any]]) -> None:
    row = runs[experiments.ROWS][0]
    browser.open(artifact(pages, row, "").removesuffix("/artifacts/"))
    browser.shows(row.info.run_name, "return (IQM)", "Stages", "Show more")
    browser.run("[...document.querySelectorAll('button')].find(button => button.textContent === 'Show more').click()")
    browser.shows("Look at", "open-loop predictions beside the truth", "Registered")


def test_page_of_artifacts_plays_the_video_of_the_policy(
    browser: Any, pages: ui.Pages, runs: dict[str, list[Any]]
) -> None:
    browser.open(artifact(pages, runs[experiments.ROWS][0], "media/evaluation/episodes.mp4"))
    browser.wait(lambda: browser.run("return document.querySelector('video').readyState >= 2"))
    assert browser.run("return document.querySelector('video').duration") > 0.5


def test_page_of_artifacts_shows_the_card_of_the_dataset(
    browser: Any, pages: ui.Pages, runs: dict[str, list[Any]]
) -> None:
    browser.open(artifact(pages, runs[experiments.DATASETS][0], "card/card.md"))
    browser.shows("pendulum_state", "episodes", "transitions")


def test_page_of_models_shows_versions_and_the_champion(browser: Any, addresses: dict[str, str]) -> None:
    browser.open(addresses["models"])
    browser.shows("pendulum_state.world_model", "pendulum_state.policy", "Version 2")
    assert len(re.findall(r"@ champion", browser.text)) == 2
