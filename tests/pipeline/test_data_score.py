"""``dreamset data score``: the disagreement of a world model's ensemble about the episodes of a store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dreamset.behaviors.rewards.spreads import Variance
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.extension import extend
from dreamset.datasets.sources import SourceDescription
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.saved_models import WORLD_MODEL, WORLD_MODEL_PARTS, SavedModel, build, save_model
from dreamset.pipeline.evaluation import disagreement
from dreamset.pipeline.evaluation.disagreement import episode_scores, rows_of, transitions
from tests.builders import without_zeros
from tests.pipeline.registered import architecture, lineage, spec

LENGTHS = (9, 4, 7)  # transitions


@dataclass(frozen=True)
class Walks:
    """Random walks of a state; in the last episode the state is far from all others."""

    lengths: Sequence[int] = LENGTHS
    size: int = 3

    @property
    def episode_count(self) -> int:
        return len(self.lengths)

    def describe(self) -> SourceDescription:
        action = ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,))
        return SourceDescription({"state": ArraySpec((self.size,), "float32")}, {}, action, {"format": "walks"})

    def read(self, number: int) -> RawEpisode:
        numbers, count = np.random.default_rng(number), self.lengths[number]
        state = numbers.normal(size=(count + 1, self.size)).cumsum(0).astype(np.float32)
        state += 100 * (number == len(self.lengths) - 1)
        action = numbers.uniform(-2, 2, size=(count, 1)).astype(np.float32)
        return RawEpisode(f"walk {number}", {"state": state}, action, state[1:, 0], terminated=False, privileged={})


def saved_model(folder: Path, *overrides: str) -> tuple[WorldModel, Path]:
    torch.manual_seed(0)
    node = architecture(*overrides)
    model: WorldModel = build(node, spec(), allowed=WORLD_MODEL_PARTS)
    without_zeros(model)
    save_model(folder, model, SavedModel(node, spec(), lineage(), WORLD_MODEL))
    return model.eval().requires_grad_(False), folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(Walks(), tmp_path / "walks")


@pytest.fixture
def scored(tmp_path: Path) -> tuple[WorldModel, Path]:
    return saved_model(tmp_path / "model", "world_model/ensemble=one_step")


@pytest.fixture
def _noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Posterior samples are their means, so that they do not depend on how episodes are grouped."""
    monkeypatch.setattr(
        "dreamset.models.recurrent.latents.GaussianLatent.noise",
        lambda self, shape, _: torch.zeros(*shape, self.size),
    )


def alone(model: WorldModel, store: Store, episode: int) -> np.ndarray:
    """The disagreement about each transition of one episode, from all of its rows at once."""
    batch = rows_of(store, [episode], 0, int(store.lengths[episode]))
    rollout = model.observe(batch, torch.Generator().manual_seed(0))
    action = model.spec.action.normalize(batch.action)
    trajectory = ImaginedTrajectory.recorded(rollout.states, rollout.features, action)
    return Variance()(model.members(trajectory))[1:, 0].numpy()


@pytest.mark.usefixtures("_noiseless")
@pytest.mark.parametrize("rows", [3, 4, 100])
def test_parts_of_episodes_score_like_whole_episodes_whatever_is_beside_them(
    rows: int, store: Store, scored: tuple[WorldModel, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = scored
    monkeypatch.setattr(disagreement, "ROWS", rows)
    got = transitions(model, store, [1, 2, 0], torch.Generator().manual_seed(0))
    for episode, values in zip([1, 2, 0], got, strict=True):
        assert len(values) == LENGTHS[episode]
        np.testing.assert_allclose(values, alone(model, store, episode), rtol=1e-4)


@pytest.mark.usefixtures("_noiseless")
@pytest.mark.parametrize("ensemble", ["one_step", "priors"])
def test_score_is_the_mean_over_transitions_and_names_the_highest(
    ensemble: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = saved_model(tmp_path / "model", f"world_model/ensemble={ensemble}")
    monkeypatch.setattr(disagreement, "EPISODES", 2)
    for episode, score in enumerate(episode_scores(store, folder)):
        values = alone(model, store, episode)
        assert score.mean == pytest.approx(values.mean(), rel=1e-4)
        assert score.highest == pytest.approx(values.max(), rel=1e-4)
        assert score.highest_row == values.argmax() + 1


def test_rows_after_the_end_of_an_episode_repeat_its_last_row(store: Store) -> None:
    batch = rows_of(store, [1, 0], 3, 8)
    assert batch.row[0].tolist() == [store.first_rows[1] + row for row in (3, 4, 4, 4, 4)]
    assert batch.row[1].tolist() == [3, 4, 5, 6, 7]


# ---- the command line


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run_and_fail(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main(["data", *map(str, arguments)])
        assert stop.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err.splitlines()[-1]

    return run_and_fail


def test_table_begins_with_the_episode_that_would_teach_most(
    store: Store, scored: tuple[WorldModel, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores.csv"
    cli.main(["data", "score", str(store.path), "--world-model", str(scored[1]), "--csv", str(file), "--show", "1"])
    mean, head, first, gap, last, written = capsys.readouterr().out.splitlines()
    table = pd.read_csv(file)
    assert table["episode"].tolist() == [0, 1, 2]
    assert table["transitions"].tolist() == list(LENGTHS)
    np.testing.assert_allclose(table["return"], store.returns, rtol=1e-6)
    assert set(table["split"]) == {"train", "validation"}
    assert first.split()[0] == str(table["disagreement"].idxmax())
    assert last.split()[0] == str(table["disagreement"].idxmin())
    assert head.split()[:2] == ["episode", "split"]
    assert gap.strip() == "..."
    assert written == f"{file}: 3 episodes"
    overall = np.average(table["disagreement"], weights=table["transitions"])
    assert mean == f"mean disagreement about {sum(LENGTHS)} transitions: {overall:.4g}"


def test_card_with_a_world_model_has_a_histogram_of_its_disagreement(
    store: Store, scored: tuple[WorldModel, Path], tmp_path: Path
) -> None:
    plain, card = tmp_path / "plain", tmp_path / "card"
    cli.main(["data", "card", str(store.path), "--output", str(plain)])
    cli.main(["data", "card", str(store.path), "--output", str(card), "--world-model", str(scored[1])])
    assert {path.name for path in card.iterdir()} - {path.name for path in plain.iterdir()} == {"disagreement.png"}
    assert "![disagreement](disagreement.png)" in (card / "card.md").read_text()
    assert "would teach it most" in (card / "card.html").read_text()


def test_a_world_model_without_an_ensemble_is_one_line(
    store: Store, tmp_path: Path, refused: Callable[..., str]
) -> None:
    _, folder = saved_model(tmp_path / "plain")
    assert "trained without an ensemble" in refused("score", store.path, "--world-model", folder)


def test_a_world_model_of_other_columns_is_one_line_that_names_the_column(
    scored: tuple[WorldModel, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    other = write_store(Walks(size=4), tmp_path / "other")
    line = refused("score", other.path, "--world-model", scored[1])
    assert "its observation state is float32 [4], but the world model in" in line
    assert "reads float32 [3]" in line


def test_a_store_without_episodes_is_one_line(
    scored: tuple[WorldModel, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    empty = extend(tmp_path / "empty", Walks(()), after=0)
    assert "has no episodes to score" in refused("score", empty.path, "--world-model", scored[1])


def test_a_missing_store_or_model_and_an_empty_table_are_one_line(
    store: Store, scored: tuple[WorldModel, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert "nowhere" in refused("score", tmp_path / "nowhere", "--world-model", scored[1])
    assert "nowhere" in refused("score", store.path, "--world-model", tmp_path / "nowhere")
    assert "--show is 0" in refused("score", store.path, "--world-model", scored[1], "--show", 0)
