"""Every behaviour in ``configs/behavior``, with both kinds of actions: training, exact resuming and acting."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamset.behaviors.base import Learner
from dreamset.behaviors.rewards.functions import PredictedReward
from dreamset.core.records import SequenceBatch
from dreamset.core.spec import ActionSpec, DataSpec
from dreamset.core.states import map_state
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.behavior_trainer import BehaviorTrainer
from dreamset.pipeline.training.optimizers import AdaptiveClipping, LaProp
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model, tiny_spec

CHOICE = ActionSpec(4, discrete=True, low=(0.0,) * 4, high=(1.0,) * 4)
FILES = sorted(path.stem for path in (Path(__file__).parents[2] / "configs/behavior").glob("*.yaml"))
ELSEWHERE = (
    "planning",
    "inverse_dynamics",
)  # one learns nothing, one needs a model without actions: tests of their own
NAMES = [name for name in FILES if name not in ELSEWHERE]
CASES = [(name, discrete) for name in NAMES for discrete in (False, True)]
DIFFUSION = "latent_diffusion_planning"  # it has no actor; tests/behaviors/diffusion/ tests how it acts
WITH_ACTOR = [name for name in NAMES if name != DIFFUSION]


def data(discrete: bool, seed: int = 0) -> tuple[DataSpec, SequenceBatch]:
    spec, batch = tiny_spec(), tiny_batch(seed=seed)
    if not discrete:
        return spec, batch
    index = torch.randint(4, batch.reward.shape, generator=seeded(seed))
    one_hot = torch.nn.functional.one_hot(index, 4).float() * ~batch.is_first[..., None]
    return replace(spec, action=CHOICE), replace(batch, action=one_hot)


def world(discrete: bool) -> WorldModel:
    return tiny_model("world_model=dreamer_v1_continue", spec=data(discrete)[0]).requires_grad_(False)


def trainer_of(name: str, discrete: bool, *, seed: int = 0, weight: float | None = None) -> BehaviorTrainer:
    config: dict[str, Any] = tiny_config(f"behavior={name}")["behavior"]
    if weight is not None:
        config = config | {"cloning_weight": weight}
        config |= {"conservative_weight": 0.0} if "conservative_weight" in config else {}  # it keeps near the data, too
    model = world(discrete)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner: Learner = build_part(config, model.feature_size, model.spec.action)
    return BehaviorTrainer(
        model,
        learner,
        PredictedReward(),
        optimizers=dict.fromkeys(learner.networks(), lambda parameters: LaProp(parameters, lr=1e-2, warmup=3)),
        clipping=AdaptiveClipping(),
        generator=seeded(seed),
    )


def checkpoint_bytes(trainer: BehaviorTrainer) -> bytes:
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    return file.getvalue()


def test_configs_contain_the_published_behaviours() -> None:
    assert {"cloning", "dreamer_v1", "dreamer_v2", "dreamer_v2_atari", "dreamer_v3"} <= set(NAMES)


@pytest.mark.parametrize(("name", "discrete"), CASES)
def test_a_step_trains_every_network_but_not_the_world_model(name: str, discrete: bool) -> None:
    trainer = trainer_of(name, discrete)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    started = {key: value.detach().clone() for key, value in trainer.behavior.named_parameters()}
    for seed in range(2):  # a last layer that starts at zero blocks the first gradient
        figures = trainer.step(data(discrete, seed)[1])
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())
    trained = {key for key, value in trainer.behavior.named_parameters() if value.requires_grad and key in started}
    unchanged = {key for key in trained if torch.equal(started[key], trainer.behavior.get_parameter(key))}
    assert unchanged == set()
    assert trainer.behavior.headline in figures
    assert all(torch.isfinite(value) for value in figures.values())
    assert {f"loss/{key}" for key in trainer.behavior.networks()} <= figures.keys()


@pytest.mark.parametrize(("name", "discrete"), CASES)
def test_resumed_training_equals_uninterrupted_training_byte_for_byte(name: str, discrete: bool) -> None:
    uninterrupted, interrupted = trainer_of(name, discrete), trainer_of(name, discrete)
    for seed in range(4):
        uninterrupted.step(data(discrete, seed)[1])
    for seed in range(2):
        interrupted.step(data(discrete, seed)[1])
    resumed = trainer_of(name, discrete, seed=1)
    assert checkpoint_bytes(resumed) != checkpoint_bytes(interrupted)
    resumed.load_state_dict(torch.load(io.BytesIO(checkpoint_bytes(interrupted)), weights_only=True))
    for seed in range(2, 4):
        resumed.step(data(discrete, seed)[1])
    assert checkpoint_bytes(resumed) == checkpoint_bytes(uninterrupted)


def test_checkpoint_contains_slow_critics_counters_and_return_scales() -> None:
    def memory_of(name: str) -> set[str]:
        state = trainer_of(name, discrete=True).state_dict()["behavior"]
        return {key.partition(".")[0] + "." + key.rpartition(".")[2] for key in state} - {
            f"{network}.{part}" for network in ("actor", "critic") for part in ("weight", "bias")
        }

    assert memory_of("dreamer_v2") == {"slow_critic.updates", "slow_critic.weight", "slow_critic.bias"}
    assert memory_of("dreamer_v3") == {"actor_loss.spread", "slow_critic.weight", "slow_critic.bias"}
    assert memory_of("cloning") == set()


def test_slow_critic_is_updated_after_every_step() -> None:
    second, third = trainer_of("dreamer_v2", discrete=False), trainer_of("dreamer_v3", discrete=False)
    before = {key: value.clone() for key, value in third.behavior.slow_critic.state_dict().items()}
    for seed in range(3):
        second.step(data(False, seed)[1])
        third.step(data(False, seed)[1])
    assert int(second.behavior.slow_critic.updates) == 3
    assert all(not torch.equal(value, before[key]) for key, value in third.behavior.slow_critic.state_dict().items())


@pytest.mark.parametrize("name", [name for name in WITH_ACTOR if name != "cloning"])
def test_cloning_weight_keeps_an_actor_critic_near_the_data(name: str) -> None:
    def likelihood(weight: float) -> float:
        trainer = trainer_of(name, discrete=True, weight=weight)
        always = torch.nn.functional.one_hot(torch.full((3, 6), 2), 4).float()
        for _ in range(30):
            trainer.step(replace(data(discrete=True)[1], action=always))
        features = trainer.model.observe(data(discrete=True)[1], seeded()).features
        return float(trainer.behavior.actor(features).probs[..., 2].mean().detach())

    assert tiny_config(f"behavior={name}")["behavior"]["cloning_weight"] == 0.0
    assert likelihood(10.0) > 0.8 > likelihood(0.0)


@pytest.mark.parametrize("name", WITH_ACTOR)
def test_discrete_policy_acts_with_the_most_likely_action_as_one_hot(name: str) -> None:
    trainer = trainer_of(name, discrete=True)
    trainer.step(data(discrete=True)[1])
    _, batch = data(discrete=True)
    controller = trainer.behavior.controller(trainer.model)
    memory, draws, generator = controller.initial(3), seeded(), seeded()
    state, action = None, torch.zeros(3, 4)
    for t in range(4):
        observations = {key: value[:, t] for key, value in batch.observations.items()}
        chosen_action, memory = controller.act(observations, batch.is_first[:, t], memory, draws)
        row = replace(batch.slice_time(t, t + 1), action=action[:, None])
        rollout = trainer.model.observe(row, generator, state)
        state = map_state(lambda value: value[:, 0], rollout.states)
        logits = trainer.behavior.actor(rollout.features[:, 0]).logits
        action = torch.nn.functional.one_hot(logits.argmax(-1), 4).float()
        assert torch.equal(chosen_action, action)


def test_only_dreamer_v3_trains_its_critic_on_recorded_rows() -> None:
    has_replay_loss = {
        name: "replay/critic_loss" in trainer_of(name, discrete=False).step(data(discrete=False)[1]) for name in NAMES
    }
    assert {name for name, present in has_replay_loss.items() if present} == {"dreamer_v3"}
    assert tiny_config("behavior=dreamer_v3")["behavior"]["replay_critic_weight"] == 0.3
