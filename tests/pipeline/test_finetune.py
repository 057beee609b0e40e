"""Online fine-tuning: its outputs, untouched inputs, and resuming after a kill to the same bytes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.pipeline.artifacts.saved_models import REWARD, model_digest
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.settings import Batch
from dreamset.pipeline.registry import catalog, retrieval
from dreamset.pipeline.stages import evaluate, finetune, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking import delivery, embedded
from dreamset.pipeline.training import checkpoint, online_learning
from dreamset.pipeline.training.online_data import OnlineData, mixed, round_seeds
from tests.pipeline.conftest import TINY
from tests.pipeline.killing import Killed, kill_after

Configure = Callable[..., dict[str, Any]]

OUTPUT = Path("runs/finetune/reconstruction-0")
# preset=tiny: two rounds of two episodes with 100 steps each; 4 updates of 4 x 8 rows are due after each round


@pytest.fixture
def trained_offline(offline_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """Composes the settings of the stage, in a folder where all earlier stages have run."""
    shutil.copytree(offline_runs, workspace / "runs")
    return lambda *overrides: configure("finetune", *overrides)


@pytest.fixture(scope="module")
def uninterrupted(offline_runs: Path) -> Path:
    """The output of an uninterrupted fine-tuning, beside the outputs of the earlier stages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(offline_runs.parent)
        finetune.run(stages.finetune(compose(TINY)))
    return offline_runs.parent / OUTPUT


def contents(folder: Path) -> dict[str, bytes]:
    """All files except the metrics, which depend on the clock."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "metrics.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_rounds_updates_and_evaluations_are_as_many_as_configured(uninterrupted: Path) -> None:
    curve = pd.read_csv(uninterrupted / "curve.csv")
    assert curve["environment_steps"].tolist() == [0, 200, 400]
    assert curve["updates"].tolist() == [0, 4, 8]  # 0.64 * steps / 32
    online = Store.open(uninterrupted / "online")
    assert online.lengths.tolist() == [101] * 4
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert metrics["finetune/improvement"] == curve["return_iqm"].iloc[-1] - curve["return_iqm"].iloc[0]
    assert metrics["finetune/dip"] == curve["return_iqm"].iloc[0] - curve["return_iqm"].min()
    assert metrics["finetune/environment_steps"] == 400
    assert metrics["evaluation/return_iqm"] == curve["return_iqm"].iloc[-1]
    episodes = pd.read_csv(uninterrupted / "episodes.csv")
    assert episodes.groupby("environment_steps").size().tolist() == [4, 4, 4]
    assert (uninterrupted / "media/episodes.mp4").stat().st_size > 1000
    assert (uninterrupted / "curve.png").stat().st_size > 1000


def test_the_last_policy_is_always_evaluated(trained_offline: Configure) -> None:
    finetune.run(trained_offline("finetuning.evaluate_every=1000"))
    assert pd.read_csv(OUTPUT / "curve.csv")["environment_steps"].tolist() == [0, 400]


def test_the_curve_begins_with_the_scores_of_the_offline_policy(
    uninterrupted: Path, trained_offline: Configure, configure: Configure
) -> None:
    assert trained_offline
    evaluate.run(configure("evaluate"))
    offline = json.loads(Path("runs/evaluation/reconstruction-0/metrics.json").read_text())
    first = pd.read_csv(uninterrupted / "curve.csv").iloc[0]
    assert first["return_iqm"] == offline["evaluation/return_iqm"]
    assert first["imagined_return"] == offline["evaluation/imagined_return"]


def test_fine_tuning_changes_no_output_of_earlier_stages(trained_offline: Configure) -> None:
    folders = [Path("data"), Path("runs/world_model"), Path("runs/behavior")]
    before = [contents(folder) for folder in folders]
    finetune.run(trained_offline())
    assert [contents(folder) for folder in folders] == before


def test_the_lineage_of_fine_tuned_models_names_parents_and_online_data(
    uninterrupted: Path, offline_runs: Path, tiny_data: Path
) -> None:
    lineage = {
        kind: json.loads((uninterrupted / kind / "model.json").read_text())["lineage"]
        for kind in ("world_model", "policy")
    }
    model, policy = (
        model_digest(offline_runs / f"{kind}/reconstruction-0/model") for kind in ("world_model", "behavior")
    )
    assert lineage["world_model"]["parent"]["digest"] == model
    assert lineage["policy"]["parent"]["digest"] == policy
    assert lineage["policy"]["world_model"]["digest"] == model_digest(uninterrupted / "world_model")
    online = {"digest": Store.open(uninterrupted / "online").digest, "environment_steps": 400}
    assert lineage["world_model"]["online"] == lineage["policy"]["online"] == online
    offline = Store.open(tiny_data / "data/stores/pendulum_state").digest
    assert lineage["world_model"]["dataset_digest"] == offline != online["digest"]


def test_both_models_are_registered_with_their_origins(
    trained_offline: Configure, offline_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    finetune.run(trained_offline())
    client = delivery.client_of(embedded.uri())
    for kind, offline in (("world_model", "world_model"), ("policy", "behavior")):
        kept = retrieval.from_registry(f"pendulum_state.{kind}", version=1)
        assert model_digest(kept) == model_digest(OUTPUT / kind)
        tags = client.get_model_version(f"pendulum_state.{kind}", "1").tags
        assert tags["parent_digest"] == model_digest(offline_runs / offline / "reconstruction-0/model")
        known = catalog.version(client, f"pendulum_state.{kind}", number=1)
        assert catalog.settings(client, known)["online_environment_steps"] == "400"
    assert tags["world_model_digest"] == model_digest(OUTPUT / "world_model")
    assert tags["world_model"] == "pendulum_state.world_model/1"
    last = pd.read_csv(OUTPUT / "curve.csv")["return_iqm"].iloc[-1]
    assert catalog.figures(client, known)["evaluation/return_iqm"] == pytest.approx(last)


def test_a_fine_tuning_killed_between_updates_resumes_to_the_same_bytes(
    uninterrupted: Path, trained_offline: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 6)  # in the second of two rounds
        finetune.run(trained_offline())
    with monkeypatch.context() as patch:
        patch.setattr(online_learning, "play", lambda *_, **__: pytest.fail("a round was collected again"))
        finetune.run(trained_offline())
    assert contents(OUTPUT) == contents(uninterrupted)
    assert not list(Path(".checkpoints").glob("*"))


def test_a_round_that_no_checkpoint_counts_is_collected_again(
    uninterrupted: Path, trained_offline: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, added = OnlineData.add, [0]

    def killed(self: OnlineData, collected: Any) -> Store:
        store = add(self, collected)
        added[0] += 1
        if added[0] == 2:
            raise Killed
        return store

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(OnlineData, "add", killed)
        finetune.run(trained_offline())
    finetune.run(trained_offline())
    assert contents(OUTPUT) == contents(uninterrupted)


def test_frozen_parts_keep_every_bit(trained_offline: Configure) -> None:
    finetune.run(trained_offline("finetuning.factors={encoder:0,dynamics:0,reward_head:1,objective:0}"))
    before = load_file("runs/world_model/reconstruction-0/model/model.safetensors")
    after = load_file(OUTPUT / "world_model/model.safetensors")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"reward_head"}


def test_the_actor_does_not_change_before_actor_from(trained_offline: Configure) -> None:
    finetune.run(trained_offline("finetuning.actor_from=8"))
    before = load_file("runs/behavior/reconstruction-0/model/model.safetensors")
    after = load_file(OUTPUT / "policy/model.safetensors")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "actor" not in changed
    assert "critic" in changed
    finetune.run(trained_offline("finetuning.actor_from=7"))
    trained = load_file(OUTPUT / "policy/model.safetensors")
    assert any(not torch.equal(before[name], trained[name]) for name in before if name.startswith("actor."))


def test_batches_have_the_configured_share_of_online_sequences(uninterrupted: Path, trained_offline: Configure) -> None:
    offline, online = Store.open("data/stores/pendulum_state"), Store.open(uninterrupted / "online")
    settings = Batch.model_validate(trained_offline()["finetuning"]["batch"])
    new = set(online.read(0)["state"][:, 2].tolist()).union(
        *(online.read(e)["state"][:, 2].tolist() for e in (1, 2, 3))
    )
    for share in (0.0, 0.25, 1.0):
        batches = [mixed(offline, online, settings, online_share=share, seed=0).batch(number) for number in range(20)]
        is_online = [set(row.tolist()) <= new for batch in batches for row in batch.observations["state"][..., 2]]
        assert sum(is_online) / len(is_online) == pytest.approx(share, abs=0.02)
    for share in (0.5, 1.0):
        assert mixed(offline, None, settings, online_share=share, seed=0).rows(0) == [4]


def test_online_episodes_too_short_for_a_window_are_not_sampled(trained_offline: Configure) -> None:
    offline = Store.open("data/stores/pendulum_state")
    batch = Batch.model_validate(trained_offline()["finetuning"]["batch"] | {"length": 50})
    short = Store.open("data/stores/pendulum_state")
    short.lengths = short.lengths * 0 + 49
    assert mixed(offline, short, batch, online_share=0.5, seed=0).rows(0) == [4]


def test_seeds_of_rounds_differ_from_each_other_and_from_recordings_and_evaluations() -> None:
    rounds = [round_seeds(seed, number, 8) for seed in (0, 1) for number in range(10)]
    assert rounds == [round_seeds(seed, number, 8) for seed in (0, 1) for number in range(10)]
    seeds = [seed for round_, _ in rounds for seed in round_]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 2**19
    assert max(seeds) < 1_000_000


def test_fine_tuning_without_an_environment_is_refused_with_the_remedy(trained_offline: Configure) -> None:
    with pytest.raises(UserError, match=r"dataset\.environment is null.*finetune: \[\]"):
        finetune.run(trained_offline() | {"environment": None})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused_by_key(trained_offline: Configure, share: float) -> None:
    with pytest.raises(UserError, match=r"finetuning\.online_share"):
        finetune.run(trained_offline(f"finetuning.online_share={share}"))


@pytest.mark.parametrize("name", ["environment_steps", "environments", "train_ratio", "evaluate_every"])
def test_settings_of_zero_are_refused_by_key(trained_offline: Configure, name: str) -> None:
    with pytest.raises(UserError, match=rf"finetuning\.{name} is 0"):
        finetune.run(trained_offline(f"finetuning.{name}=0"))


def test_an_environment_without_an_observation_of_the_model_is_refused(trained_offline: Configure) -> None:
    config = trained_offline()
    config["environment"] = config["environment"] | {"image_size": 16}
    with pytest.raises((UserError, KeyError), match="state"):
        finetune.run(config)


def test_calibrated_penalty_is_kept_unless_its_settings_change(configure: Configure, workspace: Path) -> None:  # noqa: ARG001
    pessimism = ["world_model/ensemble=priors", "reward=mean_disagreement", "reward/weight=calibrated"]
    train_world_model.run(configure("train_world_model", *pessimism))
    learn_behavior.run(configure("learn_behavior", *pessimism))

    def weight(folder: str) -> float:
        return load_file(Path(folder) / REWARD)["weight.value"].item()

    offline = weight("runs/behavior/reconstruction-0/model")
    finetune.run(configure("finetune", *pessimism))
    assert weight("runs/finetune/reconstruction-0/policy") == offline > 0
    finetune.run(configure("finetune", *pessimism, "reward.weight.target=0.2"))  # twice the default
    assert weight("runs/finetune/reconstruction-0/policy") == pytest.approx(2 * offline)
