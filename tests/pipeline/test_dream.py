"""``dreamset dream``: the figures equal a loop by hand, every kind of model dreams, and a mistake is one line."""

import csv
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.base import ActorLearner
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import map_state
from dreamset.datasets import Store
from dreamset.models.decoders import Decoder, SymlogVectorDecoder
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts import saved_models
from dreamset.pipeline.artifacts.saved_models import OBJECTIVE, load_behavior, load_world_model
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.evaluation import decoding, dream_errors, dreaming
from dreamset.pipeline.evaluation.decoding import Decoding, own_decoder
from dreamset.pipeline.evaluation.dream_errors import Dream, compare
from dreamset.pipeline.evaluation.dreaming import Reality, dream_on, recorded_actions
from dreamset.pipeline.report.dream_video import Clip
from dreamset.pipeline.stages import train_world_model
from tests.builders import patched_batch, patched_spec, seeded, tiny_batch, tiny_model, tiny_spec
from tests.foreign.models import LatentModel, TokenModel
from tests.pipeline.conftest import TINY, Configure
from tests.pipeline.policies import save_pair
from tests.pipeline.test_foreign_world_models import LATENT, TOKENS

CPU = torch.device("cpu")
CONTEXT, HORIZON = 3, 4
MODEL, POLICY = Path("runs/world_model/reconstruction-0/model"), Path("runs/behavior/reconstruction-0/model")


@pytest.fixture
def project(offline_runs: Path, tmp_path: Path) -> Path:
    """The working folder with data, a world model and a policy, but without a pipeline."""
    shutil.copytree(offline_runs, tmp_path / "runs")
    shutil.copytree(offline_runs.parent / "data", tmp_path / "data")
    return tmp_path


def run(*arguments: str) -> list[dict[str, str]]:
    """The rows of the table beside the drawing."""
    cli.main(["dream", *TINY, *arguments, "--output", "dreams/dream.png"])
    return list(csv.DictReader(Path("dreams/dream.csv").open()))


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row[name]]


def reality(rows: int = CONTEXT + HORIZON) -> Reality:
    batch = tiny_batch(1, rows)
    values = {name: value[0].numpy() for name, value in batch.observations.items()}
    action = batch.action[0].numpy().copy()
    action[0] = 0
    return Reality(values, action, batch.reward[0].numpy())


class Linear(nn.Module):
    """A decoder for tests: a sigmoid image and a linear vector."""

    def __init__(self, features: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.image, self.state = nn.Linear(features, 16 * 16 * 3), nn.Linear(features, 3)

    @torch.no_grad()
    def forward(self, features: Tensor) -> Mapping[str, Tensor]:
        return {
            "image": torch.sigmoid(self.image(features)).unflatten(-1, (16, 16, 3)),
            "state": self.state(features),
        }


def dream_of(model: Any, *, samples: int = 1, truth: Reality | None = None) -> tuple[Dream, ImaginedTrajectory[Any]]:
    truth = truth or reality()
    observed = truth.first(CONTEXT).batch(model.spec, CPU)
    policy = recorded_actions(model, reality(), context=CONTEXT, device=CPU)
    trajectory = dream_on(model, observed, policy, horizon=HORIZON, samples=samples, generator=seeded())
    return compare(model, Linear(model.feature_size), trajectory, truth, context=CONTEXT), trajectory


@torch.no_grad()
def by_hand(model: Any, generator: torch.Generator, truth: Reality, horizon: int) -> list[Any]:
    """The states of all rows, step by step."""
    count = len(truth.reward)
    rollout = model.observe(truth.batch(model.spec, CPU).slice_time(0, count - horizon), generator)
    states = [map_state(lambda value, t=t: value[:, t], rollout.states) for t in range(count - horizon)]
    noise = model.noise((horizon, 1), generator)
    for h in range(horizon):
        action = model.spec.action.normalize(torch.tensor(truth.action[count - horizon + h])[None])
        states.append(model.step(states[-1], action, noise[h]))
    return states


@pytest.mark.parametrize("build", [tiny_model, lambda: LatentModel(tiny_spec()), lambda: TokenModel(tiny_spec())])
def test_errors_are_those_of_a_loop_by_hand_in_standard_deviations_and_shares_of_white(build: Any) -> None:
    model, truth = build(), reality()
    dream, _ = dream_of(model)
    std = np.array(tiny_spec().statistics["state"].std)
    for t, state in enumerate(by_hand(model, seeded(), truth, HORIZON)):
        decoded = {name: value[0].numpy() for name, value in Linear(model.feature_size)(model.features(state)).items()}
        vector = np.mean(((decoded["state"] - truth.observations["state"][t]) / std) ** 2)
        image = np.mean((decoded["image"] - truth.observations["image"][t] / 255) ** 2)
        np.testing.assert_allclose(dream.error["state"][t], vector, rtol=1e-4)
        np.testing.assert_allclose(dream.error["image"][t], image, rtol=1e-4)
        np.testing.assert_allclose(dream.mean_error[t], (vector + image) / 2, rtol=1e-4)


def test_threshold_is_half_the_error_of_the_mean_observation() -> None:
    dream, _ = dream_of(LatentModel(tiny_spec()))
    values = reality().observations
    vector = values["state"] / np.array(tiny_spec().statistics["state"].std)
    expected = (vector.var(0).mean() + (values["image"] / 255).var(0).mean()) / 4
    np.testing.assert_allclose(dream.threshold, expected, rtol=1e-5)


def test_reward_of_a_state_and_an_action_is_in_the_row_of_arrival_across_the_end_of_the_context() -> None:
    model, truth = LatentModel(tiny_spec()), reality()
    dream, _ = dream_of(model)
    states = by_hand(model, seeded(), truth, HORIZON)
    assert dream.predicted_reward is not None
    assert dream.predicted_reward[0] == 0
    for t in range(1, CONTEXT + HORIZON):
        action = model.spec.action.normalize(torch.tensor(truth.action[t])[None])
        expected = model.reward_head(torch.cat([states[t - 1].z, action], dim=-1))[0, 0]
        np.testing.assert_allclose(dream.predicted_reward[t], expected.item(), rtol=1e-4)


def test_model_without_rewards_dreams_without_a_curve_of_rewards() -> None:
    dream, _ = dream_of(TokenModel(tiny_spec()))
    assert dream.predicted_reward is None
    assert "predicted_reward" not in dream.table()[0]
    assert "reward" in dream.table()[0]


def test_uncertainty_is_the_spread_of_several_dreams_and_unknown_for_one() -> None:
    model = tiny_model()
    assert dream_of(model)[0].uncertainty is None
    dream, trajectory = dream_of(model, samples=5)
    decoded = Linear(model.feature_size)(trajectory.features)
    std = np.array(tiny_spec().statistics["state"].std)
    vector, image = (decoded["state"].numpy() / std).std(1), decoded["image"].numpy().std(1)
    assert dream.uncertainty is not None
    np.testing.assert_allclose(dream.uncertainty, (vector.mean(1) + image.mean((1, 2, 3))) / 2, rtol=1e-4)
    low, high = dream.band["state"]
    np.testing.assert_allclose(low, decoded["state"].numpy().min(1), rtol=1e-5)
    np.testing.assert_allclose(high, decoded["state"].numpy().max(1), rtol=1e-5)
    np.testing.assert_allclose(dream.prediction["state"], decoded["state"].numpy()[:, 0], rtol=1e-5)
    assert dream.measure == dream_errors.SPREAD


def test_an_ensemble_disagrees_about_the_first_dream() -> None:
    model = tiny_model("world_model/ensemble=priors")
    dream, trajectory = dream_of(model, samples=2)
    assert dream.measure == dream_errors.ENSEMBLE
    means = model.members(trajectory).mean()[:, :, 0].detach().numpy()  # [K, T, Z]
    expected = np.linalg.norm(means - means.mean(0), axis=-1).mean(0)
    np.testing.assert_allclose(dream.uncertainty, expected, rtol=1e-4)


def test_decoding_by_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = dream_of(tiny_model(), samples=3)
    monkeypatch.setattr(dream_errors, "CHUNK", 2)
    parts, _ = dream_of(tiny_model(), samples=3)
    for name, values in whole.prediction.items():
        np.testing.assert_allclose(parts.prediction[name], values, atol=1e-6)
    np.testing.assert_allclose(parts.uncertainty, whole.uncertainty, atol=1e-6)


def test_the_step_where_a_dream_leaves_reality_is_the_first_above_the_threshold_after_the_context() -> None:
    dream, _ = dream_of(LatentModel(tiny_spec()))
    errors = np.array([9, 0, 0, 0.5, 1.5, 0, 9.0])
    known = replace(dream, error={"a": errors, "b": errors}, threshold=1.0)
    assert known.leaves == 4
    assert known.phase(2) == "observing"
    assert known.phase(4) == "open loop +2"
    assert replace(known, threshold=10.0).leaves is None


def test_rows_without_truth_have_a_prediction_and_no_error() -> None:
    dream, _ = dream_of(LatentModel(tiny_spec()), truth=reality().first(CONTEXT))
    table = dream.table()
    assert len(table) == CONTEXT + HORIZON
    assert np.isfinite([row["predicted_reward"] for row in table]).all()
    assert np.isfinite([row["error"] for row in table]).tolist() == [True] * CONTEXT + [False] * HORIZON
    assert dream.leaves is None


@pytest.mark.parametrize("vector", [{}, {"vector": SymlogVectorDecoder}])
def test_decoded_observations_are_in_the_units_of_the_dataset(vector: dict[str, Any]) -> None:
    spec = tiny_spec()
    decoder = Decoder(5, spec, depth=2, hidden=4, layers=1, **vector)
    features = torch.randn(2, 3, 5, generator=seeded())
    decoded = Decoding(decoder, spec, "")(features)
    raw = decoder(features)
    statistics = spec.statistics["state"]
    mean = raw["state"].mean.detach()
    expected = mean if vector else mean * torch.tensor(statistics.std) + torch.tensor(statistics.mean)
    torch.testing.assert_close(decoded["state"], expected)
    pixels = (raw["image"].mean.detach() + 0.5).clamp(0, 1)
    torch.testing.assert_close(decoded["image"], pixels.permute(0, 1, 3, 4, 2))


@pytest.mark.usefixtures("project")
def test_table_equals_the_saved_model_and_its_own_decoder_by_hand() -> None:
    table = run("--episode", "3", "--context", "4", "--horizon", "9", "--samples", "1")
    model, _ = load_world_model(MODEL)
    objective = build_part(compose(TINY)["objective"], model)
    decoding.load_weights(MODEL.parent / OBJECTIVE, objective, made_by="")
    rows = Store.open("data/stores/pendulum_state").read(3, 0, 13)
    truth = Reality({"state": rows["state"]}, np.array(rows["action"]), np.array(rows["reward"]))
    states = by_hand(model, seeded(), truth, 9)
    statistics = model.spec.statistics["state"]
    errors, rewards = [], []
    for t, state in enumerate(states):
        features = model.features(state)
        mean = objective.decoder(features)["state"].mean[0].detach().numpy()
        errors.append(np.mean((mean - (rows["state"][t] - statistics.mean) / statistics.std) ** 2))
        rewards.append(float(model.reward_head(features).mean))
    np.testing.assert_allclose(column(table, "error"), errors, rtol=1e-3)
    np.testing.assert_allclose(column(table, "predicted_reward"), rewards, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(column(table, "reward"), rows["reward"], rtol=1e-5)
    assert [row["phase"] for row in table] == ["observing"] * 4 + ["open_loop"] * 9
    assert column(table, "step") == list(range(13))


@pytest.mark.usefixtures("project")
def test_a_seed_repeats_a_dream_and_another_seed_does_not() -> None:
    first = run("--horizon", "8")
    drawn = Path("dreams/dream.png").read_bytes()
    assert run("--horizon", "8") == first
    assert Path("dreams/dream.png").read_bytes() == drawn
    assert column(run("--horizon", "8", "--world-model", str(MODEL), "seed=1"), "error") != column(first, "error")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("choice", "place"), [("worst", 0), ("best", -1)])
def test_best_and_worst_are_held_out_episodes_by_return(
    choice: str, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.open("data/stores/pendulum_state")
    held_out = sorted(store.split("validation"), key=lambda number: store.returns[number])
    table = run("--episode", choice, "--horizon", "5")
    assert column(table, "reward") == pytest.approx(store.read(held_out[place], 0, len(table))["reward"].tolist())
    assert "dreams/dream.csv" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_the_policy_acts_in_the_context_and_its_imagined_actions_are_then_really_taken() -> None:
    config = compose(TINY)
    make = build_part(config["dataset"]["environment"])
    model, _ = load_world_model(MODEL)
    learner = load_behavior(POLICY)
    policy = learner.imagination_policy()
    assert policy is not None
    played, trajectory = dreaming.act_and_dream(
        model, learner, make(), seed=7, context=5, horizon=6, samples=3, generator=seeded()
    )
    environment = make()
    observation, _ = environment.reset(seed=7)
    for t in range(11):
        np.testing.assert_array_equal(played.observations["state"][t], observation["state"])
        if t < 10:
            observation, reward, *_ = environment.step(played.action[t + 1])
            assert played.reward[t + 1] == pytest.approx(reward)
    chosen = policy(trajectory.features[4:10, 0])
    np.testing.assert_allclose(model.spec.action.denormalize(chosen), played.action[5:], rtol=1e-4, atol=1e-6)
    assert torch.equal(trajectory.action[4:, 0], trajectory.action[4:, 2])  # all dreams take the first one's actions
    assert not torch.equal(trajectory.features[-1, 0], trajectory.features[-1, 2])


@pytest.mark.usefixtures("project")
def test_reality_ends_with_the_episode_and_the_dream_goes_on() -> None:
    table = run("--with-policy", "dataset.environment.episode_steps=8", "--horizon", "12", "--context", "4")
    assert len(table) == 16
    assert len(column(table, "error")) == 9
    assert len(column(table, "predicted_reward")) == 16


@pytest.mark.usefixtures("project")
def test_without_an_environment_a_policy_is_imagined_and_the_truth_unknown(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    table = run("--with-policy", "dataset.environment=null", "--horizon", "6", "--context", "4")
    assert len(column(table, "error")) == 4
    assert len(column(table, "predicted_reward")) == 10
    assert "dataset.environment is null" in caplog.text
    assert "no truth is known" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_video_has_a_frame_for_each_step(ending: str) -> None:
    cli.main(["dream", *TINY, "--horizon", "5", "--context", "4", "--output", f"dream.{ending}"])
    frames = iio.imread(f"dream.{ending}")
    assert len(frames) == 9
    assert Path("dream.csv").exists()
    assert not list(Path().glob(".saving*"))


def test_frames_are_equally_large_and_show_truth_dream_error_and_the_phase() -> None:
    dream, _ = dream_of(tiny_model(), samples=2)
    clip = Clip(dream, ["a head that is much longer than the others, as a name of a dataset may be", "decoder"])
    frames = [clip.frame(row) for row in range(len(clip))]
    assert len({frame.shape for frame in frames}) == 1
    assert not frames[0].shape[0] % 2
    assert not frames[0].shape[1] % 2
    truth = np.kron((dream.truth["image"][4] * 255).round().astype(np.uint8), np.ones((16, 16, 1), np.uint8))
    assert _contains(frames[4], truth)
    assert not _contains(frames[5], truth)
    blue, orange = (0, 114, 178), (213, 94, 0)
    assert [(frame == blue).all(-1).sum() > 1000 for frame in frames] == [True] * CONTEXT + [False] * HORIZON
    assert [(frame == orange).all(-1).sum() > 3000 for frame in frames] == [False] * CONTEXT + [True] * HORIZON


def _contains(frame: np.ndarray, part: np.ndarray) -> bool:
    height, width = part.shape[:2]
    corners = np.argwhere((frame[: -height + 1, : -width + 1] == part[0, 0]).all(-1))
    return any(np.array_equal(frame[y : y + height, x : x + width], part) for y, x in corners)


def test_curves_grow_with_the_steps() -> None:
    dream, _ = dream_of(tiny_model(), samples=2)
    clip = Clip(dream, ["head"])
    drawn = [(clip.frame(row)[clip.boxes[0].top + 40 :] == (213, 94, 0)).all(-1).sum() for row in range(len(clip))]
    early = (clip.empty[clip.boxes[0].top :] == (213, 94, 0)).all(-1).sum()
    assert drawn[-1] > drawn[0] >= early


@pytest.mark.usefixtures("project")
def test_a_probe_decodes_for_an_objective_without_decoder_and_is_fitted_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (MODEL.parent / OBJECTIVE).unlink()
    first = run("--horizon", "5")
    assert decoding.PROBE in capsys.readouterr().out

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(decoding, "train_probe_decoder", fail)
    assert run("--horizon", "5") == first
    (kept,) = Path("runs/dream/decoders").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(AssertionError, match="fitted again"):
        run("--horizon", "5")


@pytest.mark.usefixtures("project")
def test_own_decoder_of_other_sizes_is_not_used_and_a_line_says_why(caplog: pytest.LogCaptureFixture) -> None:
    model, _ = load_world_model(MODEL)
    other = compose([*TINY, "network.hidden=33"])["objective"]
    assert own_decoder(model, MODEL, other, device=CPU) is None
    assert "the objective's own decoder is not used" in caplog.text
    assert own_decoder(model, MODEL, compose(TINY)["objective"], device=CPU) is not None
    partial = compose(TINY)["objective"] | {"names": []}
    assert own_decoder(model, MODEL, partial, device=CPU) is None


@pytest.mark.usefixtures("project")
def test_policy_of_another_world_model_does_not_dream(capsys: pytest.CaptureFixture[str]) -> None:
    other = save_pair(Path("others"), spec=load_world_model(MODEL)[0].spec)
    with pytest.raises(SystemExit):
        cli.main(["dream", *TINY, "--policy", str(other.policy)])
    assert f"{other.policy} was learned in another world model than {MODEL}" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_policy_that_needs_more_than_features_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ActorLearner, "imagination_policy", lambda _: None)
    with pytest.raises(SystemExit):
        cli.main(["dream", *TINY, "--with-policy"])
    assert "needs more than the model's features" in capsys.readouterr().err


@pytest.mark.parametrize(("node", "says"), [(LATENT, False), (TOKENS, True)])
def test_models_that_are_no_rssm_dream_with_a_probe_and_a_missing_reward_is_told(
    node: dict[str, Any],
    says: bool,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(saved_models, "WORLD_MODEL_PARTS", (*saved_models.WORLD_MODEL_PARTS, "tests.foreign"))
    override = "objective=reward_only"
    train_world_model.run(configure("train_world_model", override) | {"world_model": node})
    rows = run(override, "--horizon", "5")
    output = capsys.readouterr().out
    assert decoding.PROBE in output
    assert ("predicts no rewards" in output) == says
    assert len(column(rows, "error")) == len(rows)
    assert "uncertainty" not in rows[0]  # a deterministic model without an ensemble does not know its own


@pytest.mark.usefixtures("project")
def test_default_file_lies_in_runs_and_is_named_after_model_and_episode() -> None:
    cli.main(["dream", *TINY, "--episode", "2", "--horizon", "3"])
    assert sorted(path.name for path in Path("runs/dream").iterdir()) == [
        "reconstruction-0-episode-2.csv",
        "reconstruction-0-episode-2.mp4",
    ]


@pytest.mark.usefixtures("project")
def test_dream_of_a_manual_model_lies_beside_it() -> None:
    own = Path("runs/manual/pendulum_state-tiny")
    shutil.copytree("runs/world_model", own / "world_model")
    Path("dvc.yaml").write_text("stages: {ingest: {cmd: dreamset ingest}}\n")
    cli.main(["dream", *TINY, "--episode", "2", "--horizon", "3"])
    assert (own / "dream/reconstruction-0-episode-2.mp4").exists()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["objective=contrastive"], "runs/world_model/contrastive-0/model/model.json does not exist; run"),
        (["--world-model", "nowhere"], "nowhere/model.json does not exist"),
        (["--policy", "nowhere"], "nowhere/model.json does not exist; run `dreamset learn-behavior` first"),
        (["--episode", "100000"], "--episode is 100000; allowed: best, median, worst"),
        (["--episode", "-1"], "--episode"),
        (["--episode", "bets"], "--episode is bets; allowed: best, median, worst"),
        (["--with-policy", "--episode", "best"], "--episode is best; allowed with a policy: 0, 1, 2"),
        (["--horizon", "100000"], "--horizon is 100000, but episode"),
        (["--horizon", "0"], "--horizon is 0; allowed: 1 or more"),
        (["--context", "0"], "--context is 0; allowed: 1 or more"),
        (["--context", "100000"], "--context is 100000, but no held-out episode"),
        (["--samples", "0"], "--samples is 0; allowed: 1 or more"),
        (["--horizon", "many"], "--horizon is 'many'; allowed: a whole number"),
        (["--output", "dream.avi"], "--output is dream.avi; allowed: a file that ends in .mp4, .gif, .png"),
        (["dataset=cartpole"], "was trained on pendulum_state, not on cartpole"),
        (["imagination.horizn=3"], "did you mean imagination.horizon?"),
        (["--with-policy", "dataset.environment.episode_steps=3"], "the episode with seed 1000000 ends after 4 rows"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["dream", *TINY, *arguments])
    assert stop.value.code == 2
    (message,) = capsys.readouterr().err.strip().splitlines()
    assert expected in message
    assert not list(Path("runs").glob("dream/*.*"))


def test_patch_features_have_an_error_and_are_not_drawn() -> None:
    spec, recorded = patched_spec(), patched_batch(1, CONTEXT + HORIZON)
    model = tiny_model(spec=spec)
    truth = Reality(
        {name: rows[0].numpy() for name, rows in recorded.observations.items()},
        recorded.action[0].numpy(),
        recorded.reward[0].numpy(),
    )
    policy = recorded_actions(model, truth, context=CONTEXT, device=CPU)
    observed = truth.first(CONTEXT).batch(spec, CPU)
    trajectory = dream_on(model, observed, policy, horizon=HORIZON, samples=1, generator=seeded())
    decoding = Decoding(Decoder(model.feature_size, spec, depth=2, hidden=4, layers=1), spec, "untrained")
    dream = compare(model, decoding, trajectory, truth, context=CONTEXT)
    assert set(dream.error) == {"image", "state", "patches"}
    assert set(dream.prediction) == set(dream.truth) == {"image", "state"}
    decoded = decoding(trajectory.features)["patches"][:, 0].numpy()
    expected = np.square((decoded - truth.observations["patches"].astype(np.float64)) / 2.0).mean(axis=(1, 2))
    np.testing.assert_allclose(dream.error["patches"], expected, rtol=1e-4)
    assert Clip(dream, ["title"]).frame(CONTEXT).ndim == 3


def test_dream_of_patch_features_alone_is_refused() -> None:
    spec = patched_spec()
    spec = replace(spec, observations={"patches": spec.observations["patches"]})
    model = tiny_model(spec=spec)
    with pytest.raises(UserError, match=r"only the patch features \['patches'\], .* keep the images"):
        compare(model, Linear(model.feature_size), None, reality(), context=CONTEXT)  # type: ignore[arg-type]
