"""Composition: presets, groups and overrides reach the settings of the stages."""

import shlex
from pathlib import Path

import pytest
import yaml

from dreamset import configs
from dreamset.behaviors.rewards.functions import PenalizedReward
from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import compose, with_drawn_seed
from dreamset.pipeline.config.instantiate import build_part

PRESETS = sorted(path.stem for path in (Path(configs.__file__).parent / "preset").glob("*.yaml"))


def test_presets_and_overrides_set_sizes_of_all_parts() -> None:
    config = compose(["preset=tiny", "network.hidden=24"])
    assert config["network"]["depth"] == 2
    assert config["objective"]["hidden"] == 24
    assert config["world_model"]["encoder"]["hidden"] == 24
    assert config["behavior"]["critic"]["hidden"] == 24


def test_paper_preset_has_the_published_numbers() -> None:
    config = compose(["preset=paper"])
    assert config["world_model"]["dynamics"]["latent"] | {"_target_": ""} == {
        "_target_": "",
        "size": 30,
        "min_std": 0.1,
    }
    assert config["world_model"]["dynamics"]["cell"]["size"] == 200
    assert config["world_model"]["divergence"]["weight"] == 1.0
    assert config["world_model"]["divergence"]["free_nats"] == 3.0
    batch = config["world_model_training"]["batch"]
    assert (batch["size"], batch["length"]) == (50, 50)
    assert config["world_model_training"]["optimizer"]["lr"] == 6e-4
    assert config["behavior_training"]["optimizers"]["actor"]["lr"] == 8e-5
    assert (config["behavior"]["horizon"], config["behavior"]["discount"], config["behavior"]["lambda_"]) == (
        15,
        0.99,
        0.95,
    )
    assert config["objective"]["depth"] == 32


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dataset", ["pendulum_pixels", "pendulum_state"])
def test_every_preset_composes_with_every_dataset(name: str, dataset: str) -> None:
    assert compose([f"preset={name}", f"dataset={dataset}"])["choices"]["preset"] == name


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_changes_the_architecture_of_an_existing_model(name: str) -> None:
    config = compose([f"preset={name}", "world_model=from_registry"])
    assert set(config["world_model"]) == {"name", "alias", "version", "run", "folder", "strict"}


@pytest.mark.parametrize("name", ["small_v2", "small_v3", "small_state_v2", "small_state_v3"])
def test_preset_of_a_generation_selects_model_and_behavior(name: str) -> None:
    generation = f"dreamer_{name[-2:]}"
    config = compose([f"preset={name}"])
    assert (config["choices"]["world_model"], config["choices"]["behavior"]) == (generation, generation)
    assert config["world_model_training"]["scheduler"]["total_iters"] == config["world_model_training"]["updates"]


@pytest.mark.parametrize("spread", ["mean_disagreement", "log_probability_spread", "mixture_spread"])
@pytest.mark.parametrize("weight", ["fixed", "tuned"])
@pytest.mark.parametrize(
    "generation", ["dreamer_v1", "dreamer_v1_continue", "dreamer_v2", "dreamer_v2_atari", "dreamer_v3"]
)
def test_every_generation_can_be_pessimistic(generation: str, spread: str, weight: str) -> None:
    overrides = [f"reward={spread}", f"reward/weight={weight}", "world_model/ensemble=priors"]
    config = compose(["preset=tiny", f"world_model={generation}", *overrides])
    assert config["world_model"]["ensemble"]["members"] == 7
    reward = build_part(config["reward"])
    assert isinstance(reward, PenalizedReward)
    assert type(reward.weight).__name__.lower() == f"{weight}weight"


def test_numbers_at_their_bounds_are_accepted() -> None:
    counts = ["evaluation.episodes=1", "imagination.horizon=1", "validation.every=1", "network.hidden=1"]
    compose([*counts, "world_model_training.updates=0", "seed=0", "evaluation.confidence=0", "imagination.discount=0"])
    compose(["evaluation.confidence=1", "imagination.discount=1", "behavior.lambda_=1", "finetuning.online_share=1"])


def test_whole_numbers_are_accepted_where_the_default_has_a_fraction() -> None:
    assert compose(["weights.kl=1"])["world_model"]["divergence"]["weight"] == 1


def test_configs_of_the_working_folder_precede_installed_ones(root: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(root / "configs", tmp_path / "configs")
    path = tmp_path / "configs/objective/contrastive.yaml"
    path.write_text(path.read_text().replace("min_std: 0.1", "min_std: 0.7"))
    assert compose(["objective=contrastive"])["objective"]["min_std"] == 0.7


def test_composed_configuration_is_plain_yaml() -> None:
    config = compose(["preset=small"])
    assert yaml.safe_load(yaml.safe_dump(config)) == config


def test_preset_for_vectors_changes_only_its_own_settings() -> None:
    vectors, frames = compose(["preset=small_state", "dataset=pendulum_state"]), compose(["preset=small"])
    assert vectors["objective"]["weight"] == 20.0
    assert vectors["world_model_training"]["scheduler"]["total_iters"] == 1200
    assert vectors["behavior"] == frames["behavior"]
    assert vectors["world_model_training"]["batch"] == frames["world_model_training"]["batch"]


@pytest.mark.parametrize(
    "path", ["~/data", "/a/[x]", "/a/b=c", "/a,b", "/(a)/{b}", "/a#b", "/a&b", "/ü", "/it's", "/a=b c"]
)
def test_advice_for_an_unreadable_override_sets_the_same_value(path: str) -> None:
    override = f"dataset.source.path={path}"
    with pytest.raises(UserError) as error:
        compose(["dataset=vd4rl", override])
    assert override in str(error.value)
    (advised,) = shlex.split(str(error.value).rpartition(": ")[2])
    assert compose(["dataset=vd4rl", advised])["dataset"]["source"]["path"] == path


@pytest.mark.parametrize("path", ["/a b", "/100%", "/$x", "/a:b", "/a+b@c"])
def test_other_paths_need_no_quotes(path: str) -> None:
    assert compose(["dataset=vd4rl", f"dataset.source.path={path}"])["dataset"]["source"]["path"] == path


@pytest.mark.parametrize("dataset", ["npz_folder", "hdf5_folder"])
def test_mappings_of_columns_can_be_set_by_overrides(dataset: str) -> None:
    names = ("observations", "privileged", "next_observations", "boundaries")
    given = [f"dataset.source.{name}={{key: [x]}}" for name in names[-1:]]
    given += [f"dataset.source.{name}={{key: x}}" for name in names[:-1]]
    source = compose([f"dataset={dataset}", "dataset.source.path=files", *given])["dataset"]["source"]
    assert [source[name] for name in names] == [{"key": "x"}, {"key": "x"}, {"key": "x"}, {"key": ["x"]}]


@pytest.mark.parametrize("override", ["seed=null", "seed=NULL", "seed="])
def test_drawn_seed_is_told_and_differs_from_the_next(override: str, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (with_drawn_seed(["preset=tiny", override]) for _ in range(2))
    assert first[0] == "preset=tiny"
    assert first != second
    assert f"{first[1]} repeats this run" in caplog.messages[0]
    assert compose(first)["seed"] == int(first[1].removeprefix("seed="))


def test_given_seeds_and_other_keys_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    overrides = ["seed=7", "dataset.split.seed=null", "objective=contrastive"]
    assert with_drawn_seed(overrides) == overrides
    assert not caplog.messages


@pytest.mark.parametrize("choice", ["acting=null", "objective=null", "reward=null", "preset=null", "dataset=[]"])
def test_a_choice_that_is_no_name_is_answered_with_the_names_and_the_default(choice: str) -> None:
    group, _, value = choice.partition("=")
    with pytest.raises(UserError) as error:
        compose([choice])
    names = sorted(path.stem for path in (Path(configs.__file__).parent / group).glob("*.yaml"))
    rule = f"{group} is {value}; allowed: {', '.join(names)}; or leave {group}=... out for the default"
    assert str(error.value) == f"configuration: {rule}"


def test_a_file_that_overrides_a_group_below_it_is_answered_by_hydra_and_not_by_a_recursion(
    root: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(root / "configs", tmp_path / "configs")
    path = tmp_path / "configs/acting/cem.yaml"
    path.write_text(
        path.read_text().replace("  - optimizer: cem", "  - override /reward: predicted\n  - optimizer: cem")
    )
    with pytest.raises(UserError, match="override"):
        compose(["acting=cem"])
