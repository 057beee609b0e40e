"""What the configuration refuses: every wrong setting is one line that names the key, the finding and the remedy."""

import shutil
from pathlib import Path

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import compose, composed
from dreamset.pipeline.config.settings import Settings, schema_keys

OUT_OF_BOUNDS = [
    ("network.hidden=0", "network.hidden is 0; allowed: 1 or more"),
    ("network.depth=-2", "network.depth is -2; allowed: 1 or more"),
    ("weights.kl=-1", "weights.kl is -1; allowed: 0 or more"),
    ("free_nats=-0.1", "free_nats is -0.1; allowed: 0 or more"),
    ("seed=-1", "seed is -1; allowed: 0 or more"),
    ("device=gpu", "device is 'gpu'; allowed: 'auto', 'cpu' or 'cuda'"),
    ("world_model_training.batch.size=0", "world_model_training.batch.size is 0; allowed: 1 or more"),
    ("world_model_training.clip_norm=-1", "world_model_training.clip_norm is -1; allowed: more than 0"),
    ("world_model_training.updates=-1", "world_model_training.updates is -1; allowed: 0 or more"),
    ("world_model_training.optimizer.lr=-1", "world_model_training.optimizer.lr is -1; allowed: 0 or more"),
    ("behavior_training.updates=0", "behavior_training.updates is 0; allowed: 1 or more"),
    ("behavior.lambda_=7", "behavior.lambda_ is 7; allowed: 1 or less"),
    ("behavior.horizon=-1", "behavior.horizon is -1; allowed: 1 or more"),
    ("imagination.horizon=0", "imagination.horizon is 0; allowed: 1 or more"),  # not behavior.horizon, which reads it
    ("imagination.discount=2", "imagination.discount is 2; allowed: 1 or less"),
    ("validation.every=0", "validation.every is 0; allowed: 1 or more"),
    ("validation.horizons=[]", "validation.horizons is []; allowed: a list of 1 or more entries"),
    ("validation.horizons=[5,0]", "validation.horizons[1] is 0; allowed: 1 or more"),
    ("evaluation.episodes=0", "evaluation.episodes is 0; allowed: 1 or more"),
    ("evaluation.seed=-1", "evaluation.seed is -1; allowed: 0 or more"),
    ("evaluation.confidence=2", "evaluation.confidence is 2; allowed: 1 or less"),
    ("finetuning.train_ratio=0", "finetuning.train_ratio is 0; allowed: more than 0"),
    ("finetuning.online_share=1.5", "finetuning.online_share is 1.5; allowed: 1 or less"),
    ("finetuning.factors.encoder=-1", "finetuning.factors.encoder is -1; allowed: 0 or more"),
    ("ingest.compression=zip", "ingest.compression is 'zip'; allowed: 'lzf', 'gzip', 'lz4' or 'zstd'"),
    ("dataset.on_invalid=skip", "dataset.on_invalid is 'skip'; allowed: 'error' or 'quarantine'"),
    ("dataset.split.validation_fraction=1", "dataset.split.validation_fraction is 1; allowed: less than 1"),
    ("dataset.recording.episodes=0", "dataset.recording.episodes is 0; allowed: 1 or more"),
    ("collection.episodes=0", "collection.episodes is 0; allowed: 1 or more"),
    ("seed=9223372036854775808", "seed is 9223372036854775808; allowed: 9223372036854775807 or less"),
]
NOT_FINITE = [
    ("free_nats=inf", "free_nats is inf; allowed: a finite number"),
    ("weights.kl=nan", "weights.kl is nan; allowed: a finite number"),
    ("weights.kl=1e400", "weights.kl is inf; allowed: a finite number"),
    ("finetuning.train_ratio=inf", "finetuning.train_ratio is inf; allowed: a finite number"),
    ("finetuning.factors.encoder=inf", "finetuning.factors.encoder is inf; allowed: a finite number"),
    ("validation.probe_decoder.lr=inf", "validation.probe_decoder.lr is inf; allowed: a finite number"),
    ("imagination.discount=nan", "imagination.discount is nan; allowed: a finite number"),
    ("world_model_training.clip_norm=nan", "world_model_training.clip_norm is nan; allowed: more than 0"),
    ("world_model_training.optimizer.lr=nan", "world_model_training.optimizer.lr is nan; allowed: a finite number"),
    ("behavior_training.optimizers.actor.lr=inf", "optimizers.actor.lr is inf; allowed: a finite number"),
    ("world_model_training.scheduler.start_factor=nan", "start_factor is nan; allowed: a finite number"),
    ("+world_model_training.optimizer.betas=[0.9,inf]", "betas is [0.9, inf]; allowed: a finite number"),
    ("reward=nan", "reward is nan; allowed: careful, careful_exploration, curious"),
]
WRONG_KIND = [
    ("network.hidden=many", "network.hidden is 'many'; allowed: a whole number"),
    ("network.hidden=1.5", "network.hidden is 1.5; allowed: a whole number"),
    ("network.hidden=true", "network.hidden is true; allowed: a whole number"),
    ("network.hidden=null", "network.hidden is null; allowed: a whole number"),
    ("evaluation.episodes=null", "evaluation.episodes is null; allowed: a whole number"),
    ("seed=abc", "seed is 'abc'; allowed: a whole number"),
    ("seed=null", "seed is null; allowed: a whole number"),
    ("world_model_training.optimizer=adam", "world_model_training.optimizer is 'adam'; allowed: a mapping"),
    ("behavior_training.optimizers.actor=adam", "behavior_training.optimizers.actor is 'adam'; allowed: a mapping"),
    ("+world_model_training.optimizer.betas=[0.9]", "optimizer.betas is [0.9]; allowed: a list with more entries"),
    ("+world_model_training.optimizer.betas=[0,0,0]", "betas is [0, 0, 0]; allowed: a list of 2 or fewer entries"),
    ("free_nats=none", "free_nats is 'none'; allowed: a number"),
    ("paths.runs=3", "paths.runs is 3; allowed: text"),
    ("world_model_training.batch.crossing=1", "world_model_training.batch.crossing is 1; allowed: true or false"),
    ("validation.horizons=5", "validation.horizons is 5; allowed: a list"),
    ("world_model_training.optimizer=null", "world_model_training.optimizer is null; allowed: a mapping"),
    ("world_model_training.optimizer.lr=fast", "world_model_training.optimizer.lr is 'fast'; allowed: a number"),
    ("behavior.lambda_=high", "behavior.lambda_ is 'high'; allowed: a number"),
    ("dataset.environment=pendulum", "dataset.environment is 'pendulum'; allowed: a mapping"),
    ("world_model.encoder=null", "world_model.encoder is null; allowed: a part"),
    ("world_model_training.clip_norm=null", "world_model_training needs exactly one of clip_norm and clipping"),
]
UNKNOWN = [
    (
        "world_model_training.updatse=3",
        "world_model_training.updatse is unknown; did you mean world_model_training.u",
    ),
    ("+network.hiden=3", "network.hiden is unknown; did you mean network.hidden?"),
    ("behaviour.horizon=3", "behaviour.horizon is unknown; did you mean behavior.horizon?"),
    ("+dataset.enviroment=null", "dataset.enviroment is unknown; did you mean dataset.environment?"),
    ("+imagination.lenght=3", "imagination.lenght is unknown; allowed: discount, horizon"),
    ("+sede=3", "sede is unknown; did you mean seed?"),
    ("++validation.start=3", "validation.start is unknown; did you mean validation.starts?"),
    ("~validation.starts", "validation.starts is missing"),
    ("~seed", "seed is missing and has no default; set it"),
    ("behavior_training.actor_optimizer.lr=1", "is now behavior_training.optimizers.actor.lr; change the override"),
    ("+behavior_training.critic_optimizer.lr=1", "is now behavior_training.optimizers.critic.lr; change the override"),
    (
        "objective=nope",
        "objective is 'nope'; allowed: barlow_twins, consistency, contrastive, cosine_contrastive, "
        "embedding_consistency, frozen_features, predictive_contrastive, reconstruction, "
        "reconstruction_and_contrastive, reward_only; see `dreamset list objective`",
    ),
    ("seed=1,2", "seed=1,2 has several values, but a stage takes one"),
    ("world_model_training.batch=[1", "world_model_training.batch=[1"),
]


@pytest.mark.parametrize(("override", "expected"), [*OUT_OF_BOUNDS, *NOT_FINITE, *WRONG_KIND, *UNKNOWN])
def test_wrong_override_is_a_one_line_error_with_its_key(override: str, expected: str) -> None:
    preset = ["preset=tiny"] if "scheduler" in override else []  # the default has none
    with pytest.raises(UserError) as error:
        compose([*preset, override])
    assert expected in str(error.value)
    assert str(error.value).startswith("configuration: ")
    assert "\n" not in str(error.value)
    assert "multirun" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "override", "reason"),
    [
        ("world_model_training.optimizer", "betas=[0.9,1.0]", "Invalid beta parameter at index 1: 1.0"),
        ("behavior_training.optimizers.critic", "betas=[-1,0.9]", "Invalid beta parameter at index 0: -1"),
        ("world_model_training.scheduler", "start_factor=2", "Starting multiplicative factor"),
        ("finetuning.scheduler", "end_factor=2", "Ending multiplicative factor"),
    ],
)
def test_values_that_only_the_optimiser_checks_are_refused_before_any_stage(
    key: str, override: str, reason: str
) -> None:
    with pytest.raises(UserError) as error:
        compose(["preset=tiny", f"++{key}.{override}"])
    assert str(error.value).startswith(f"configuration: {key} cannot be built: {reason}")
    assert str(error.value).endswith("; change its arguments")


def test_an_infinite_limit_of_the_gradient_switches_clipping_off() -> None:
    assert compose(["world_model_training.clip_norm=inf"])["world_model_training"]["clip_norm"] == float("inf")


@pytest.fixture
def configs(root: Path, tmp_path: Path) -> Path:
    """A copy of configs/ in the working folder, where composition finds it."""
    shutil.copytree(root / "configs", tmp_path / "configs")
    return tmp_path / "configs"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("config.yaml", "  updates: 100000", "  updatse: 100000", "world_model_training.updatse is unknown; did you"),
        ("config.yaml", "  hidden: 400", "  hidden: 0", "network.hidden is 0; allowed: 1 or more"),
        ("config.yaml", "crossing: false", "crossing: never", "crossing is 'never'; allowed: true or false"),
        ("preset/tiny.yaml", "every: 3", "evry: 3", "validation.evry is unknown; did you mean validation.every?"),
        ("preset/tiny.yaml", "{lr: 1.0e-3}", "{rl: 1.0e-3}", "optimizer.rl is no argument of torch.optim.Adam"),
        ("behavior/dreamer_v1.yaml", "lambda_: 0.95", "lamda: 0.95", "did you mean behavior.lambda_?"),
        ("behavior/dreamer_v1.yaml", "lambda_: 0.95", "lambda_: 9.5", "behavior.lambda_ is 9.5; allowed: 1 or less"),
        ("behavior/dreamer_v1.yaml", "discount: 0.99", "discount: 99", "imagination.discount is 99; allowed: 1 or"),
        ("objective/reconstruction.yaml", "names: null", "name: null", "objective.name is no argument of"),
        ("dataset/pendulum_state.yaml", "privileged:", "priviledged:", "did you mean dataset.source.privileged?"),
        ("dataset/pendulum_state.yaml", "on_invalid:", "on_invlaid:", "did you mean dataset.on_invalid?"),
        ("world_model/dreamer_v1.yaml", "  layers: $", "  layer: $", "world_model.encoder.layer is no argument of"),
    ],
)
def test_wrong_key_or_value_in_a_file_is_refused_with_the_file(
    configs: Path, file: str, old: str, new: str, expected: str
) -> None:
    text = (configs / file).read_text()
    assert old in text
    (configs / file).write_text(text.replace(old, new))
    with pytest.raises(UserError) as error:
        compose(["preset=tiny" if "tiny" in file else "preset=paper", "dataset=pendulum_state"])
    assert expected in str(error.value)
    assert str(error.value).endswith(f" (in configs/{file})")
    assert "\n" not in str(error.value)


def test_wrong_override_is_reported_before_a_wrong_file(configs: Path) -> None:
    path = configs / "preset/tiny.yaml"
    path.write_text(path.read_text().replace("depth: 2", "depth: 0"))
    with pytest.raises(UserError, match=r"evaluation\.episodes is 0"):
        compose(["preset=tiny", "evaluation.episodes=0"])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["+imagination.slow_critic_every=3"], "dreamer_v1 read imagination.discount, imagination.horizon"),
        (["imagination.slow_critic_every=3"], "dreamer_v1 read imagination.discount, imagination.horizon"),
        (["behavior=cloning", "imagination.horizon=3"], "behavior=cloning read nothing"),
        (["preset=tiny", "behavior=dreamer_v3", "+tanh_normal.min_std=1"], "behavior=dreamer_v3 read nothing"),
        (["network.classes=3"], "network.deterministic, network.hidden, network.layers, network.min_std"),
        (["objective=reward_only", "weights.observation=3"], "read weights.kl, weights.reward"),
        (["world_model=dreamer_v3", "free_nats=1"], "of free_nats, "),
        (["behavior=cloning", "behavior_training.optimizers.critic.lr=1"], "behavior=cloning has the networks actor"),
    ],
)
def test_override_without_effect_error_lists_the_settings_that_are_read(overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError) as error:
        compose(overrides)
    assert f"{overrides[-1].lstrip('+').partition('=')[0]} is set, but nothing reads it" in str(error.value)
    assert expected in str(error.value)


def test_presets_may_set_numbers_of_parts_that_are_not_selected() -> None:
    assert compose(["preset=small_v2", "behavior=dreamer_v1"])["imagination"]["slow_critic_every"] == 2
    assert composed(["preset=tiny", "world_model=dreamer_v3"]).without_effect == {}


def test_users_part_may_read_its_own_section(configs: Path) -> None:
    text = (configs / "behavior/dreamer_v1.yaml").read_text()
    mine = text.replace("lambda_: 0.95", "lambda_: ${mine.lambda}").replace(
        "imagination: #", "mine: {lambda: 0.9}\nimagination: #"
    )
    (configs / "behavior/mine.yaml").write_text(mine)
    assert compose(["behavior=mine", "mine.lambda=0.8"])["behavior"]["lambda_"] == 0.8
    with pytest.raises(UserError, match=r"mine\.lambda is 8; allowed: 1 or less"):
        compose(["behavior=mine", "mine.lambda=8"])


def test_schema_and_composed_configuration_have_equal_sections() -> None:
    config = compose(["world_model=from_registry", "adaptation=heads_only", "goals=future"])
    assert config.keys() - {"choices"} == Settings.model_fields.keys()
    assert {"behavior_training.optimizers", "validation.probe_decoder.lr", "dataset.split.seed"} <= schema_keys()


@pytest.mark.parametrize("group", ["behavior_training", "world_model_training", "size", "adaptation"])
def test_optional_group_is_selected_with_or_without_a_plus(group: str) -> None:
    choice = {"size": "dreamer_v2", "adaptation": "heads_only"}.get(group, "dreamer_v3")
    assert compose([f"{group}={choice}"]) == compose([f"+{group}={choice}"]) != compose([])


def test_old_names_of_parts_are_replaced_in_composition() -> None:
    config = compose(["world_model.encoder._target_=dreamset.models.encoders.Encoder"])
    old = compose(["world_model.dynamics._target_=dreamset.models.rssm.RSSM"])
    assert old == config
