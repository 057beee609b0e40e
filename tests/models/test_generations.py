"""The presets of v1, v2 and v3: published numbers, published sizes and the supported image sizes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.models.recurrent.latents import CategoricalLatent
from dreamset.models.recurrent.world_model import WorldModel
from dreamset.objectives.reconstruction import Reconstruction
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model

CONFIGS = Path(__file__).parents[2] / "configs"
GENERATIONS = sorted(path.stem for path in (CONFIGS / "world_model").glob("dreamer*.yaml"))  # not from_registry
SIZES = sorted(path.stem for path in (CONFIGS / "size").glob("dreamer*.yaml"))
FRAMES = DataSpec({"image": ArraySpec((64, 64, 3), "uint8")}, ActionSpec(6, False, (-1.0,) * 6, (1.0,) * 6), {}, {})

every_generation = pytest.mark.parametrize("name", GENERATIONS)


def build(*overrides: str, spec: DataSpec = FRAMES, device: str = "meta") -> tuple[WorldModel, Reconstruction]:
    """The configured model and objective; the device ``meta`` allocates no memory for weights."""
    config = compose(["preset=paper", *overrides])
    with torch.device(device):
        model: WorldModel = build_part(config["world_model"], spec)
        objective: Reconstruction = build_part(config["objective"], model)
    return model, objective


def parameters(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_configs_contain_all_generations_and_sizes() -> None:
    assert set(GENERATIONS) >= {"dreamer_v1", "dreamer_v1_continue", "dreamer_v2", "dreamer_v2_atari", "dreamer_v3"}
    assert {f"dreamer_v3_{size}m" for size in (1, 12, 25, 50, 100, 200, 400)} <= set(SIZES)


@pytest.mark.parametrize("size", SIZES)
def test_model_size_matches_the_parameter_count_in_its_file(size: str) -> None:
    generation = size if size in GENERATIONS else re.sub(r"_\d+m$", "", size)
    stated = re.search(r"([\d,]+) parameters", (CONFIGS / "size" / f"{size}.yaml").read_text())
    assert stated is not None
    assert parameters(*build(f"world_model={generation}", f"size={size}")) == int(stated[1].replace(",", ""))


def test_v3_dynamics_have_the_published_number_of_parameters() -> None:
    """The count by hand from the published layers for 12M: deter 2048, hidden 256, 32 x 16 classes, 8 blocks."""
    model, _ = build("world_model=dreamer_v3", "size=dreamer_v3_12m")
    deter, hidden, stoch, action, blocks, embedding = 2048, 256, 32 * 16, 6, 8, 4 * 4 * 4 * 16

    def layer(inputs: int, outputs: int, *, norm: bool = True) -> int:
        return inputs * outputs + outputs + (outputs if norm else 0)

    def block_layer(inputs: int, outputs: int, *, norm: bool) -> int:
        return inputs * outputs // blocks + outputs + (outputs if norm else 0)

    expected = (
        layer(deter, hidden)
        + layer(stoch, hidden)
        + layer(action, hidden)
        + block_layer(blocks * (deter // blocks + 3 * hidden), deter, norm=True)
        + block_layer(deter, 3 * deter, norm=False)
        + (layer(deter, hidden) + layer(hidden, hidden) + layer(hidden, stoch, norm=False))
        + (layer(deter + embedding, hidden) + layer(hidden, stoch, norm=False))
    )
    assert parameters(model.dynamics) == expected
    assert model.embedding_size == embedding


def test_v2_presets_have_the_published_settings() -> None:
    control, _ = build("world_model=dreamer_v2", "size=dreamer_v2")
    atari, _ = build("world_model=dreamer_v2_atari", "size=dreamer_v2_atari")
    assert (control.dynamics.cell.size, atari.dynamics.cell.size) == (200, 600)
    for model in (control, atari):
        assert isinstance(model.dynamics.latent, CategoricalLatent)
        assert (model.dynamics.latent.variables, model.dynamics.latent.size) == (32, 1024)
        assert model.dynamics.latent.unimix == 0
        assert model.embedding_size == 1536
        assert model.divergence.alpha == 0.8
    assert (control.divergence.weight, control.divergence.free_nats, control.continue_discount) == (1.0, 1.0, 0.99)
    assert (atari.divergence.weight, atari.divergence.free_nats, atari.continue_discount) == (0.1, 0.0, 0.999)
    assert (control.continue_weight, atari.continue_weight) == (1.0, 5.0)
    assert {type(layer) for layer in control.encoder.encoders["image"].layers} == {torch.nn.Conv2d, torch.nn.ELU}


def test_v3_preset_has_the_published_settings() -> None:
    model, objective = build("world_model=dreamer_v3", "size=dreamer_v3_12m")
    divergence, latent = model.divergence, model.dynamics.latent
    assert (divergence.dyn, divergence.rep, divergence.free_bits) == (1.0, 0.1, 1.0)
    assert (latent.variables, latent.size, latent.unimix) == (32, 32 * 16, 0.01)
    assert model.dynamics.cell.gates.blocks == 8
    assert model.reward_head.layers[-1].out_features == 255
    assert model.continue_discount == pytest.approx(1 - 1 / 333, rel=1e-12)
    assert (model.reward_weight, model.continue_weight, objective.weight) == (1.0, 1.0, 1.0)
    kinds = {type(layer) for layer in [*model.modules(), *objective.modules()]}
    assert torch.nn.SiLU in kinds
    assert not kinds & {torch.nn.ELU, torch.nn.ReLU, torch.nn.LayerNorm}


@every_generation
@pytest.mark.parametrize("edge", [16, 32, 64])
def test_every_generation_encodes_and_reconstructs_frames_of_usual_sizes(name: str, edge: int) -> None:
    spec = replace(FRAMES, observations={"image": ArraySpec((edge, edge, 3), "uint8")})
    model = tiny_model(f"world_model={name}", spec=spec)
    objective = build_part(tiny_config(f"world_model={name}")["objective"], model)
    batch = tiny_batch(2, 3)
    image = torch.randint(0, 256, (2, 3, edge, edge, 3), dtype=torch.uint8, generator=seeded())
    batch = replace(batch, observations={"image": image}, action=torch.zeros(2, 3, 6))
    losses = objective(model.observe(batch, seeded()), batch, model)
    assert losses["reconstruction.image"].value.shape == (2, 3)
    assert torch.isfinite(losses["reconstruction.image"].value).all()


@every_generation
def test_state_dict_restores_every_output_of_a_generation(name: str) -> None:
    source, target, batch = tiny_model(f"world_model={name}", seed=1), tiny_model(f"world_model={name}"), tiny_batch()

    def figures(model: WorldModel) -> dict[str, torch.Tensor]:
        rollout = model.observe(batch, seeded())
        return {key: loss.value for key, loss in model.losses(rollout, batch).items()} | {"z": rollout.features}

    expected = figures(source)
    assert not torch.equal(figures(target)["z"], expected["z"])
    target.load_state_dict(source.state_dict())
    assert all(torch.equal(value, expected[key]) for key, value in figures(target).items())


def test_a_part_of_another_generation_replaces_the_preset_part() -> None:
    model = tiny_model("world_model=dreamer_v1", "world_model/dynamics/latent=categorical")
    assert isinstance(model.dynamics.latent, CategoricalLatent)
    config = compose(["world_model=dreamer_v3", "decoder=dreamer_v1"])
    assert set(config["decoder"]) == {"_target_", "_partial_", "vector_trunk"}  # nothing of v3 is left
    assert "image" in compose(["world_model=dreamer_v3"])["objective"]["decoder"]
    assert "image" not in compose(["world_model=dreamer_v1"])["objective"]["decoder"]
