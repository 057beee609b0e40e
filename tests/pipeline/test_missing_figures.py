"""A figure that is NaN or infinite is missing, and costs neither the model nor the other figures."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.scores import summarize
from dreamset.pipeline.evaluation.validation import Validator
from dreamset.pipeline.files import finite, require_writable, write_csv, write_figures
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.stages import evaluate, learn_behavior, train_world_model
from tests.pipeline.registered import world_model

Configure = Callable[..., dict[str, Any]]

NAN, INFINITE = float("nan"), float("inf")


def test_a_nan_among_the_last_figures_costs_no_world_model(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measure = Validator.metrics
    monkeypatch.setattr(Validator, "metrics", lambda self, model: {**measure(self, model), "validation/kl": NAN})
    train_world_model.run(configure("train_world_model"))
    output = Path("runs/world_model/reconstruction-0")
    assert (output / "model/model.safetensors").exists()
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["validation/kl"] is None
    assert metrics["validation/reward_error_h1"] > 0
    assert "figures that are not finite: validation/kl" in caplog.text
    table = pd.read_csv(output / "validation.csv")
    assert table["kl"].isna().all()
    assert table["reward_error_h1"].notna().all()


def test_a_return_that_is_nan_costs_no_evaluation(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))

    def first_return_is_nan(evaluator: Any) -> Any:
        episodes = play(evaluator)
        episodes[0].rewards[0] = np.nan
        return episodes

    play = evaluate.play
    monkeypatch.setattr(evaluate, "play", first_return_is_nan)
    evaluate.run(configure("evaluate"))
    output = Path("runs/evaluation/reconstruction-0")
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["evaluation/return_mean"] is None
    assert metrics["evaluation/imagined_return"] is not None
    assert pd.read_csv(output / "episodes.csv")["return"].isna().tolist() == [True, False, False, False]


def test_null_stands_for_each_figure_that_is_not_finite(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_figures(tmp_path / "metrics.json", {"a": 1.5, "b": NAN, "c": -INFINITE, "d": 0})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": 1.5, "b": None, "c": None, "d": 0}
    assert [record.getMessage() for record in caplog.records] == [
        "metrics.json has null in place of figures that are not finite: b, c"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        write_figures(tmp_path / "metrics.json", {"a": 1.5})
    assert not caplog.records


def test_tables_have_empty_cells_and_every_column(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [{"update": 1, "a": NAN}, {"update": 2, "a": 0.5, "b": INFINITE}, {"b": 3.0}])
    assert (tmp_path / "table.csv").read_text() == "update,a,b\n1,,\n2,0.5,\n,,3.0\n"


def test_figures_that_are_not_finite_are_not_registered(tmp_path: Path) -> None:
    entry = registration(
        world_model(tmp_path / "model"), {"validation/kl": NAN, "validation/probe_r2": 0.5, "loss/kl": 1.0}
    )
    assert entry.figures == {"validation/probe_r2": 0.5}
    assert finite({"a": NAN, "b": INFINITE, "c": 2}) == {"c": 2}


def test_equal_reference_scores_leave_the_normalised_score_out() -> None:
    settings = Evaluation(episodes=2, seed=0, confidence=0.9, resamples=10, video_episodes=1)
    table = pd.DataFrame({"return": [1.0, 3.0], "imagined_return_after_context": [NAN, NAN]})
    for high, expected in ((5.0, False), (7.0, True)):
        lineage = {"reference": {"low": 5.0, "high": high}, "dataset_return": {"mean": 0.0}}
        assert ("evaluation/normalized_mean" in summarize(settings, table, lineage)) == expected


@pytest.mark.parametrize("blocked", ["runs", ".checkpoints"])
def test_outputs_that_cannot_be_written_are_refused_before_the_training(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    config = configure("train_world_model")
    Path(blocked).write_text("a file where a folder belongs")
    monkeypatch.setattr(train_world_model, "start", lambda *_: pytest.fail("the training was prepared"))
    with pytest.raises(UserError, match=rf"^{blocked}.* cannot be written \(.*paths\.runs"):
        train_world_model.run(config)


def test_the_check_of_a_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    require_writable(tmp_path / "new/folder")
    assert list((tmp_path / "new/folder").iterdir()) == []
