"""``preset=dreamer_v1`` and the other published presets have every number of the papers."""

from collections.abc import Mapping
from typing import Any

import pytest

from dreamset.behaviors.actor_critic.critics import HardUpdate
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from tests.builders import seeded, tiny_batch, tiny_spec

ADAM, ADAMW = "torch.optim.Adam", "torch.optim.AdamW"
TRAINING = "dreamset.pipeline.training.optimizers"
CRITICS = "dreamset.behaviors.actor_critic.critics"
RSSM, HEADS, ACTORS = "world_model.dynamics", "dreamset.models.heads", "behavior.actor.continuous"


def optimizer(key: str, target: str, **numbers: float) -> dict[str, object]:
    return {f"{key}._target_": target, **{f"{key}.{name}": value for name, value in numbers.items()}}


def optimizers(target: str, model: float, actor: float, critic: float, **numbers: float) -> dict[str, object]:
    """The three optimisers of a generation, which differ only in their learning rates."""
    keys = {"world_model_training.optimizer": model}
    keys |= {"behavior_training.optimizers.actor": actor, "behavior_training.optimizers.critic": critic}
    return {
        name: value for key, rate in keys.items() for name, value in optimizer(key, target, lr=rate, **numbers).items()
    }


def both(**settings: object) -> dict[str, object]:
    """Settings of both trainings."""
    return {
        f"{training}.{key.replace('__', '.')}": value
        for training in ("world_model_training", "behavior_training")
        for key, value in settings.items()
    }


V1 = {
    f"{RSSM}.latent._target_": "dreamset.models.recurrent.latents.GaussianLatent",
    f"{RSSM}.latent.size": 30,
    f"{RSSM}.latent.min_std": 0.1,
    f"{RSSM}.cell._target_": "dreamset.models.recurrent.cells.GRU",
    f"{RSSM}.cell.size": 200,
    "world_model.divergence._target_": "dreamset.models.recurrent.divergences.FreeNatsKL",
    "world_model.divergence.weight": 1.0,
    "world_model.divergence.free_nats": 3.0,
    "world_model.reward_head._target_": f"{HEADS}.NormalHead",
    "world_model.continue_head": None,
    **optimizers(ADAM, 6e-4, 8e-5, 8e-5),
    **both(clip_norm=100.0, clipping=None, batch__size=50, batch__length=50),
    "world_model_training.scheduler": None,
    "behavior.horizon": 15,
    "behavior.discount": 0.99,
    "behavior.lambda_": 0.95,
    "behavior.slow_critic._target_": f"{CRITICS}.NoSlowCritic",
    "behavior.replay_critic_weight": 0.0,
}
V2 = {
    f"{RSSM}.latent._target_": "dreamset.models.recurrent.latents.CategoricalLatent",
    f"{RSSM}.latent.variables": 32,
    f"{RSSM}.latent.classes": 32,
    f"{RSSM}.cell._target_": "dreamset.models.recurrent.cells.LayerNormGRU",
    f"{RSSM}.cell.size": 200,
    "world_model.divergence._target_": "dreamset.models.recurrent.divergences.BalancedKL",
    "world_model.divergence.alpha": 0.8,
    "world_model.divergence.weight": 1.0,
    "world_model.divergence.free_nats": 1.0,
    "world_model.reward_head._target_": f"{HEADS}.NormalHead",
    "world_model.continue_head._target_": f"{HEADS}.BernoulliHead",
    "world_model.continue_discount": 0.99,
    **optimizers(ADAMW, 3e-4, 8e-5, 8e-5, eps=1e-5),
    **both(clip_norm=100.0, clipping=None, batch__size=16, batch__length=50),
    "world_model_training.scheduler": None,
    "behavior.actor_loss.entropy_weight": 1e-4,
    "behavior.actor_loss.gradient.rho": 0.0,
    "behavior.slow_critic.every": 100,
    "behavior.discount": 0.99,
}
V2_ATARI = {
    **V2,
    f"{RSSM}.cell.size": 600,
    "world_model.divergence.weight": 0.1,
    "world_model.divergence.free_nats": 0.0,
    "world_model.continue_discount": 0.999,
    **optimizers(ADAMW, 2e-4, 4e-5, 1e-4, eps=1e-5),
    "behavior.actor_loss.entropy_weight": 1e-3,
    "behavior.actor_loss.gradient.rho": 1.0,
    "behavior.discount": 0.999,
}
V3 = {
    f"{RSSM}.latent._target_": "dreamset.models.recurrent.latents.CategoricalLatent",
    f"{RSSM}.latent.variables": 32,
    f"{RSSM}.latent.unimix": 0.01,
    f"{RSSM}.cell._target_": "dreamset.models.recurrent.cells.BlockGRU",
    f"{RSSM}.cell.blocks": 8,
    "world_model.divergence._target_": "dreamset.models.recurrent.divergences.DynRepKL",
    "world_model.divergence.dyn": 1.0,
    "world_model.divergence.rep": 0.1,
    "world_model.divergence.free_bits": 1.0,
    "world_model.reward_head._target_": f"{HEADS}.SymexpTwoHotHead",
    "world_model.reward_head.bins": 255,
    "world_model.continue_head._target_": f"{HEADS}.BernoulliHead",
    "world_model.continue_discount": pytest.approx(1 - 1 / 333),
    **optimizers(f"{TRAINING}.LaProp", 4e-5, 4e-5, 4e-5, eps=1e-20, warmup=1000),
    **both(clip_norm=None, clipping___target_=f"{TRAINING}.AdaptiveClipping", clipping__ratio=0.3),
    **both(batch__size=16, batch__length=64),
    "world_model_training.scheduler": None,
    "behavior.actor_loss.entropy_weight": 3e-4,
    "behavior.actor_loss.normalizer.decay": 0.99,
    "behavior.actor_loss.normalizer.low": 5.0,
    "behavior.actor_loss.normalizer.high": 95.0,
    "behavior.actor_loss.normalizer.floor": 1.0,
    "behavior.critic._target_": f"{HEADS}.SymexpTwoHotHead",
    "behavior.discount": pytest.approx(1 - 1 / 333),
}
PUBLISHED = {"dreamer_v1": V1, "dreamer_v2": V2, "dreamer_v2_atari": V2_ATARI, "dreamer_v3": V3}


def at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node[name]
    return node


@pytest.mark.parametrize("generation", PUBLISHED)
def test_one_preset_has_every_published_number_of_a_generation(generation: str) -> None:
    config, published = compose([f"preset={generation}"]), PUBLISHED[generation]
    assert {key: at(config, key) for key in published} == published
    assert config["choices"]["world_model"] == config["choices"]["behavior"] == generation


@pytest.mark.parametrize("generation", ["dreamer_v2", "dreamer_v2_atari"])
def test_weight_decay_is_a_millionth_per_update_for_any_learning_rate(generation: str) -> None:
    config = compose([f"preset={generation}"])
    trained = [config["world_model_training"]["optimizer"], *config["behavior_training"]["optimizers"].values()]
    assert [node["lr"] * node["weight_decay"] for node in trained] == pytest.approx([1e-6] * 3)


@pytest.mark.parametrize("generation", PUBLISHED)
def test_published_training_replaces_that_of_a_small_preset_except_its_updates(generation: str) -> None:
    trainings = [f"world_model_training={generation}", f"behavior_training={generation}"]
    config, published = compose(["preset=small", *trainings]), PUBLISHED[generation]
    expected = {key: value for key, value in published.items() if key.partition(".")[0].endswith("_training")}
    assert {key: at(config, key) for key in expected} == expected
    assert (config["world_model_training"]["updates"], config["behavior_training"]["updates"]) == (1600, 300)


def test_size_and_training_overrides_come_after_the_published_preset() -> None:
    config = compose(["preset=dreamer_v3", "size=dreamer_v3_12m", "world_model_training.batch.size=8"])
    assert config["network"]["deterministic"] == 2048
    assert config["world_model_training"]["batch"]["size"] == 8
    assert config["world_model_training"]["optimizer"]["lr"] == 4e-5


def test_dreamer_v1_can_take_the_critics_of_the_later_generations() -> None:
    overrides = [f"behavior.slow_critic._target_={CRITICS}.HardUpdate", "behavior.replay_critic_weight=0.3"]
    learner = build_part(compose(["preset=tiny", *overrides])["behavior"], 8, tiny_spec().action)
    assert isinstance(learner.slow_critic, HardUpdate)
    assert learner.replay_critic_weight == 0.3


@pytest.mark.parametrize(("generation", "style"), [("dreamer_v2", "elu"), ("dreamer_v3", "silu_rms_norm")])
def test_vectors_can_share_encoder_and_decoder_trunk_as_published(generation: str, style: str) -> None:
    options = ["world_model.encoder.one_for_vectors=true"]
    options += [f"decoder.vector_trunk={{_target_: dreamset.models.layers.{style}}}"]
    config = compose(["preset=tiny", f"world_model={generation}", *options])
    model = build_part(config["world_model"], tiny_spec())
    objective = build_part(config["objective"], model)
    assert model.encoder.of_vectors is not None
    assert objective.decoder.trunk is not None
    loss = objective(model.observe(tiny_batch(), seeded()), tiny_batch(), model)
    assert set(loss) == {"reconstruction.image", "reconstruction.state"}


def test_continue_head_of_dreamer_v1_can_be_that_of_its_published_code() -> None:
    options = ["continue_weight=10", "continue_discount=0.99", "continue_head.layers=3"]
    config = compose(["world_model=dreamer_v1_continue", *(f"world_model.{option}" for option in options)])
    model = config["world_model"]
    assert (model["continue_weight"], model["continue_discount"], model["continue_head"]["layers"]) == (10, 0.99, 3)
    unchanged = compose(["world_model=dreamer_v1_continue"])["world_model"]
    assert (unchanged["continue_weight"], unchanged["continue_discount"]) == (1.0, 1.0)
