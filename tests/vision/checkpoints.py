"""Tiny random checkpoints of DINOv2 in the layouts of torch.hub, timm and transformers."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, DEPTH, HEADS, PATCH, POSITIONS = 128, 2, 2, 14, 3
Weights = dict[str, Tensor]


def hub(*, registers: int = 0, seed: int = 0) -> Weights:
    """The names of torch.hub; every value is random, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, POSITIONS**2 + 1, WIDTH),
        "mask_token": (1, WIDTH),
        **({"register_tokens": (1, registers, WIDTH)} if registers else {}),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for block in range(DEPTH):
        for name, shape in {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "ls1.gamma": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            "mlp.fc2.bias": (WIDTH,),
            "ls2.gamma": (WIDTH,),
        }.items():
            shapes[f"blocks.{block}.{name}"] = shape
    return {
        name: torch.randn(shape, generator=generator) * (0.1 if len(shape) > 1 else 0.5)
        for name, shape in shapes.items()
    }


def timm(weights: Weights) -> Weights:
    """As timm saves them: with registers, the class token has its position embedding added already."""
    named = {name: value for name, value in weights.items() if name != "mask_token"}
    if "register_tokens" in named:
        named["reg_token"] = named.pop("register_tokens")
        named["cls_token"] = named["cls_token"] + named["pos_embed"][:, :1]
        named["pos_embed"] = named["pos_embed"][:, 1:]
    return named


def transformers(weights: Weights) -> Weights:
    """As transformers saves them: other names, and query, key and value apart."""
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    named = {}
    for name, value in weights.items():
        if not name.startswith("blocks."):
            named[names[name]] = value
            continue
        _, block, rest = name.split(".", 2)
        layer = f"encoder.layer.{block}."
        if rest.startswith("attn.qkv."):
            for part, values in zip(("query", "key", "value"), value.chunk(3), strict=True):
                named[f"{layer}attention.attention.{part}.{rest.rpartition('.')[2]}"] = values
            continue
        rest = rest.replace("attn.proj", "attention.output.dense")
        rest = rest.replace("ls1.gamma", "layer_scale1.lambda1").replace("ls2.gamma", "layer_scale2.lambda1")
        named[layer + rest] = value
    return named


def write_hub(folder: Path, weights: Weights) -> Path:
    folder.mkdir()
    torch.save(weights, folder / "dinov2_tiny_pretrain.pth")
    return folder


def write_timm(folder: Path, weights: Weights) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch14_dinov2", "num_classes": 0}))
    return write_safetensors(folder, timm(weights))


def write_transformers(folder: Path, weights: Weights) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "num_attention_heads": HEADS}))
    return write_safetensors(folder, transformers(weights))


def write_safetensors(folder: Path, weights: Weights) -> Path:
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    return folder


LAYOUTS = {"torch.hub": write_hub, "timm": write_timm, "transformers": write_transformers}
