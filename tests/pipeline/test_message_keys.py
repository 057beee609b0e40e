"""Every setting that a message names exists, so users can follow its advice."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.mistakes import dotted_keys
from dreamset.pipeline.config.settings import Settings, schema_keys

ROOT = Path(__file__).parents[2]
PACKAGES = ("behaviors", "core", "datasets", "environments", "models", "objectives", "pipeline")
DOTTED = re.compile(r"(?<![\w./-])[a-z][a-z_]+(?:\.[a-z_]\w*)+")
CHOICE = re.compile(r"(?<![\w./-])([a-z][a-z_/]*[a-z])=(\w*)")
SUFFIXES = {"csv", "json", "yaml", "npz", "png", "safetensors", "db", "md", "arrow", "jsonl", "parquet", "hdf", "mp"}
COMPOSED = (  # together they have every part that a message names
    [],
    ["world_model=from_registry", "adaptation=heads_only", "objective=consistency"],
    ["world_model=dreamer_v3", "behavior=dreamer_v3", "dataset=d4rl", "objective=contrastive"],
    ["world_model=dreamer_v2", "world_model/ensemble=priors", "reward=mean_disagreement", "dataset=pendulum_state"],
    ["world_model/ensemble=priors", "reward=mean_disagreement", "reward/weight=tuned", "dataset=puck_pixels"],
    ["world_model/ensemble=priors", "reward=mean_disagreement", "reward/weight=calibrated"],
    ["world_model=observations", "objective=reward_only"],
    ["behavior=latent_sac_retrace"],
    ["behavior=latent_diffusion_planning", "behavior/planner=temporal_unet", "world_model=autoencoder"],
    ["dataset=dreamer_v3_replay", "dataset.source.path=x", "objective=reconstruction_and_contrastive"],
    ["acting=mppi_critic_actor"],
    ["acting=colored_cem"],
    ["behavior=goal_planning"],
    ["acting=reversible", "reward=careful", "dataset=turf_mixed"],
    ["acting=categorical_cem", "dataset=push_mixed"],
    ["dataset=parts", "dataset.source.parts={expert: {}}"],
    ["dataset=two_room_mixed", "+dataset.environment.appearance.size=1.2"],
    ["dataset=hdf5_folder", "dataset.source.path=x", "dataset.source.observations={image: rgb}"],
)
BATCH = "behavior_training."  # messages about windows name batch.size only, because several trainings have this setting
EXAMPLES = {"robot.policy", "dynamics.from_embedding"}  # a registered model, a module below a part
FIELDS_OF_DATA = {"info", "metadata", "features"}  # fields of files such as info.json; not settings


@cache
def keys() -> frozenset[str]:
    return schema_keys().union(*(dotted_keys(compose(overrides)) for overrides in COMPOSED))


def messages(source: str) -> Iterator[str]:
    """The texts of user errors and warnings, with {} in place of values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _name(node.func) in ("UserError", "warning", "Mistake"):
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                yield from _texts(argument)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.expr):
                yield from _texts(inner)


def wrong(text: str) -> list[str]:
    """Names in a message that look like settings but are not."""
    names = [name for name in DOTTED.findall(text) if name.rpartition(".")[2] not in SUFFIXES]
    known = keys() | EXAMPLES | {key.removeprefix(BATCH) for key in keys() if key.startswith(f"{BATCH}batch.")}
    unknown = [name for name in names if name not in known and not _is_code(name) and not _is_field(name)]
    sections = {group for group, _ in CHOICE.findall(text) if group in GROUPS}
    return unknown + [
        f"{group}={choice}"
        for group, choice in CHOICE.findall(text)
        if group in sections and choice and not (ROOT / "configs" / group / f"{choice}.yaml").exists()
    ]


GROUPS = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}


def _is_code(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _is_field(name: str) -> bool:
    return name.partition(".")[0] in FIELDS_OF_DATA


def modules() -> list[Path]:
    return sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("module", modules(), ids=str)
def test_settings_named_in_messages_exist(module: Path) -> None:
    texts = list(messages((ROOT / module).read_text()))
    assert [(text, wrong(text)) for text in texts if wrong(text)] == []


def test_settings_named_in_doubts_exist() -> None:
    source = ast.parse((ROOT / "datasets/sources/doubts.py").read_text())
    returned = [node.value for node in ast.walk(source) if isinstance(node, ast.Return) and node.value]
    texts = [text for node in returned for text in _texts(node)]
    assert any("dataset.source" in text for text in texts)
    assert [(text, wrong(text)) for text in texts if wrong(text)] == []


def test_search_detects_wrong_names_in_messages() -> None:
    source = 'raise UserError(f"{x} is bad; set dataset.observations={y} or " "behavior.lamda_, or objective=nope")'
    (text,) = messages(source)
    assert wrong(text) == ["dataset.observations", "behavior.lamda_", "objective=nope"]
    (good,) = messages('log.warning("lower validation.horizons, see params.yaml, or objective=contrastive")')
    assert wrong(good) == []


def test_search_covers_messages_that_name_settings() -> None:
    named = {
        name for path in modules() for text in messages((ROOT / path).read_text()) for name in DOTTED.findall(text)
    }
    assert len(named & keys()) > 10
    assert named & set(Settings.model_fields) == set()
