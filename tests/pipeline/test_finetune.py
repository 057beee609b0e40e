"""Fine-tuning online: what it writes, what it leaves alone, and that it ends the same however often it is killed."""

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
from dreamset.pipeline.artifacts.saved_models import model_digest
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.registry import retrieval
from dreamset.pipeline.stages import evaluate, finetune, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking import delivery
from dreamset.pipeline.training import checkpoint, online_learning
from dreamset.pipeline.training.online_data import OnlineData, mixed, round_seeds
from tests.pipeline.conftest import TINY
from tests.pipeline.killing import Killed, kill_after

Configure = Callable[..., dict[str, Any]]

OUTPUT = Path("runs/finetune/reconstruction-0")
# preset=tiny; episodes have 100 steps: two rounds of two, then 4 and 8 updates of 4 x 8 rows are due


@pytest.fixture(scope="module")
def offline_runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs/`` with a model and a policy that were learned offline."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "data").symlink_to(tiny_data / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(folder)
        config = compose(TINY)
        train_world_model.run(stages.train_world_model(config))
        learn_behavior.run(stages.learn_behavior(config))
    return folder / "runs"


@pytest.fixture
def learned(offline_runs: Path, configure: Configure, workspace: Path) -> Configure:
    """The stage's configuration, in a folder where everything before it has run."""
    shutil.copytree(offline_runs, workspace / "runs")
    return lambda *overrides: configure("finetune", *overrides)


@pytest.fixture(scope="module")
def unbroken(offline_runs: Path) -> Path:
    """What an unbroken fine-tuning leaves; its folder holds everything that came before as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMSET_TRACKING", "off")
        patch.chdir(offline_runs.parent)
        finetune.run(stages.finetune(compose(TINY)))
    return offline_runs.parent / OUTPUT


def contents(folder: Path) -> dict[str, bytes]:
    """Everything but what the clock decides and what is drawn from it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "metrics.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_it_collects_learns_and_evaluates_as_often_as_it_says(unbroken: Path) -> None:
    curve = pd.read_csv(unbroken / "curve.csv")
    assert curve["environment_steps"].tolist() == [0, 200, 400]
    assert curve["updates"].tolist() == [0, 4, 8]  # 0.64 * steps / 32
    online = Store.open(unbroken / "online")
    assert online.lengths.tolist() == [101] * 4
    metrics = json.loads((unbroken / "metrics.json").read_text())
    assert metrics["finetune/improvement"] == curve["return_iqm"].iloc[-1] - curve["return_iqm"].iloc[0]
    assert metrics["finetune/dip"] == curve["return_iqm"].iloc[0] - curve["return_iqm"].min()
    assert metrics["finetune/environment_steps"] == 400
    assert metrics["evaluation/return_iqm"] == curve["return_iqm"].iloc[-1]
    episodes = pd.read_csv(unbroken / "episodes.csv")
    assert episodes.groupby("environment_steps").size().tolist() == [4, 4, 4]
    assert (unbroken / "media/episodes.mp4").stat().st_size > 1000
    assert (unbroken / "curve.png").stat().st_size > 1000


def test_the_last_policy_is_evaluated_even_if_no_evaluation_is_due(learned: Configure) -> None:
    finetune.run(learned("finetuning.evaluate_every=1000"))
    assert pd.read_csv(OUTPUT / "curve.csv")["environment_steps"].tolist() == [0, 400]


def test_the_curve_begins_with_what_evaluate_says_of_the_offline_policy(
    unbroken: Path, learned: Configure, configure: Configure
) -> None:
    assert learned
    evaluate.run(configure("evaluate"))
    offline = json.loads(Path("runs/evaluation/reconstruction-0/metrics.json").read_text())
    first = pd.read_csv(unbroken / "curve.csv").iloc[0]
    assert first["return_iqm"] == offline["evaluation/return_iqm"]
    assert first["imagined_return"] == offline["evaluation/imagined_return"]


def test_what_was_made_offline_stays_as_it_was(learned: Configure) -> None:
    folders = [Path("data"), Path("runs/world_model"), Path("runs/behavior")]
    before = [contents(folder) for folder in folders]
    finetune.run(learned())
    assert [contents(folder) for folder in folders] == before


def test_the_new_models_say_what_they_come_from(unbroken: Path, offline_runs: Path, tiny_data: Path) -> None:
    lineage = {
        kind: json.loads((unbroken / kind / "model.json").read_text())["lineage"] for kind in ("world_model", "policy")
    }
    model, policy = (
        model_digest(offline_runs / f"{kind}/reconstruction-0/model") for kind in ("world_model", "behavior")
    )
    assert lineage["world_model"]["parent"]["digest"] == model
    assert lineage["policy"]["parent"]["digest"] == policy
    assert lineage["policy"]["world_model"]["digest"] == model_digest(unbroken / "world_model")
    online = {"digest": Store.open(unbroken / "online").digest, "environment_steps": 400}
    assert lineage["world_model"]["online"] == lineage["policy"]["online"] == online
    offline = Store.open(tiny_data / "data/stores/pendulum_state").digest
    assert lineage["world_model"]["dataset_digest"] == offline != online["digest"]


def test_both_models_come_back_from_the_registry_with_their_origins(
    learned: Configure, offline_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    finetune.run(learned())
    client = delivery.client_of(delivery.embedded_uri())
    for kind, offline in (("world_model", "world_model"), ("policy", "behavior")):
        kept = retrieval.from_registry(f"pendulum_state.{kind}", version=1)
        assert model_digest(kept) == model_digest(OUTPUT / kind)
        tags = client.get_model_version(f"pendulum_state.{kind}", "1").tags
        assert tags["parent_digest"] == model_digest(offline_runs / offline / "reconstruction-0/model")
        assert tags["online_steps"] == "400"
    assert tags["world_model_digest"] == model_digest(OUTPUT / "world_model")
    assert tags["world_model"] == "pendulum_state.world_model/1"
    assert float(tags["evaluation/return_iqm"]) == pytest.approx(
        pd.read_csv(OUTPUT / "curve.csv")["return_iqm"].iloc[-1], rel=1e-5
    )


@pytest.mark.parametrize("batches", [6])
def test_killed_while_it_learns_it_ends_where_an_unbroken_one_would(
    unbroken: Path, learned: Configure, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, batches)
        finetune.run(learned())
    played: list[int] = []
    with monkeypatch.context() as patch:
        play = online_learning.play
        patch.setattr(online_learning, "play", lambda *given, **named: played.append(1) or play(*given, **named))
        finetune.run(learned())
    assert contents(OUTPUT) == contents(unbroken)
    assert len(played) < 5  # 2 rounds and 3 evaluations in all: some were kept
    assert not list(Path(".checkpoints").glob("*"))


@pytest.mark.parametrize("rounds", [2])
def test_a_round_that_was_written_but_not_noted_is_collected_again(
    unbroken: Path, learned: Configure, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    add, added = OnlineData.add, [0]

    def killed(self: OnlineData, collected: Any) -> Store:
        store = add(self, collected)
        added[0] += 1
        if added[0] == rounds:
            raise Killed
        return store

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(OnlineData, "add", killed)
        finetune.run(learned())
    finetune.run(learned())
    assert contents(OUTPUT) == contents(unbroken)


def test_frozen_parts_do_not_change_by_a_bit(learned: Configure) -> None:
    finetune.run(learned("finetuning.factors={encoder:0,dynamics:0,reward_head:1,objective:0}"))
    before = load_file("runs/world_model/reconstruction-0/model/model.safetensors")
    after = load_file(OUTPUT / "world_model/model.safetensors")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"reward_head"}


def test_the_actor_waits_until_the_critic_had_its_updates(learned: Configure) -> None:
    finetune.run(learned("finetuning.actor_from=8"))
    before = load_file("runs/behavior/reconstruction-0/model/model.safetensors")
    after = load_file(OUTPUT / "policy/model.safetensors")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "actor" not in changed
    assert "critic" in changed
    finetune.run(learned("finetuning.actor_from=7"))
    moved = load_file(OUTPUT / "policy/model.safetensors")
    assert any(not torch.equal(before[name], moved[name]) for name in before if name.startswith("actor."))


def test_batches_hold_the_stated_share_of_online_rows(unbroken: Path, learned: Configure) -> None:
    offline, online = Store.open("data/stores/pendulum_state"), Store.open(unbroken / "online")
    settings = learned()["finetuning"]["batch"]
    new = set(online.read(0)["state"][:, 2].tolist()).union(
        *(online.read(e)["state"][:, 2].tolist() for e in (1, 2, 3))
    )
    for share in (0.0, 0.25, 1.0):
        batches = [mixed(offline, online, settings, online_share=share, seed=0).batch(number) for number in range(20)]
        found = [set(row.tolist()) <= new for batch in batches for row in batch.observations["state"][..., 2]]
        assert sum(found) / len(found) == pytest.approx(share, abs=0.02)
    for share in (0.5, 1.0):
        assert mixed(offline, None, settings, online_share=share, seed=0).rows(0) == [4]


def test_episodes_too_short_for_a_window_leave_the_batch_to_the_offline_data(learned: Configure) -> None:
    offline = Store.open("data/stores/pendulum_state")
    settings = learned()["finetuning"]["batch"] | {"length": 50}
    short = Store.open("data/stores/pendulum_state")
    short.lengths = short.lengths * 0 + 49
    assert mixed(offline, short, settings, online_share=0.5, seed=0).rows(0) == [4]


def test_rounds_have_seeds_of_their_own_between_those_of_recordings_and_evaluations() -> None:
    rounds = [round_seeds(seed, number, 8) for seed in (0, 1) for number in range(10)]
    assert rounds == [round_seeds(seed, number, 8) for seed in (0, 1) for number in range(10)]
    seeds = [seed for round_, _ in rounds for seed in round_]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 2**19
    assert max(seeds) < 1_000_000


def test_without_an_environment_it_says_how_to_leave_it_out(learned: Configure) -> None:
    with pytest.raises(UserError, match=r"dataset\.environment is null.*finetune: \[\]"):
        finetune.run(learned() | {"environment": None})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused_by_key(learned: Configure, share: float) -> None:
    with pytest.raises(UserError, match=r"finetuning\.online_share"):
        finetune.run(learned(f"finetuning.online_share={share}"))


@pytest.mark.parametrize("name", ["environment_steps", "environments", "train_ratio", "evaluate_every"])
def test_settings_that_leave_nothing_to_do_are_refused_by_key(learned: Configure, name: str) -> None:
    with pytest.raises(UserError, match=rf"finetuning\.{name} is 0"):
        finetune.run(learned(f"finetuning.{name}=0"))


def test_an_environment_that_does_not_show_what_the_model_needs_is_refused(learned: Configure) -> None:
    config = learned()
    config["environment"] = config["environment"] | {"image_size": 16}
    with pytest.raises((UserError, KeyError), match="state"):
        finetune.run(config)
