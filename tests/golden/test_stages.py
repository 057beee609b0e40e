"""All figures of all stages, from recording to fine-tuning, equal the recorded ones."""

import json
from pathlib import Path

import pytest

from tests.golden import stages

CASES = sorted(stages.CASES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ingested data."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DREAMSET_TRACKING", "off")
        stages.ingested()
    return folder


@pytest.mark.parametrize("case", CASES)
def test_figures_of_all_stages_equal_recorded_figures(case: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    monkeypatch.setenv("DREAMSET_TRACKING", "off")
    recorded = json.loads(stages.ASSET.read_text())[case]
    assert stages.figures(case) == pytest.approx(recorded, rel=5e-3, abs=1e-3)
