"""DINOv2 from local folders: the network against NumPy, and the layouts of checkpoints against each other."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.vision import DinoV2, RandomWeights
from dreamset.vision.checkpoints import dino_weights, read_weights
from dreamset.vision.vit import Sizes, VisionTransformer
from tests.vision.checkpoints import HEADS, LAYOUTS, PATCH, POSITIONS, WIDTH, hub, write_hub, write_safetensors

Rows = NDArray[np.float64]

LEARNED = PATCH * POSITIONS  # pixels for which the position embedding fits


def images(count: int = 3, size: int = LEARNED, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def normed(rows: Rows, weight: Rows, bias: Rows) -> Rows:
    centred = rows - rows.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * weight + bias


def gelu(rows: Rows) -> Rows:
    return rows * 0.5 * (1 + torch.special.erf(torch.from_numpy(rows / np.sqrt(2))).numpy())


def block(tokens: Rows, weights: dict[str, Rows], prefix: str) -> Rows:
    """One block for one image [L, D], head by head."""
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    rows = normed(tokens, own["norm1.weight"], own["norm1.bias"])
    query, key, value = np.split(rows @ own["attn.qkv.weight"].T + own["attn.qkv.bias"], 3, axis=-1)
    size, heads = WIDTH // HEADS, []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = np.exp(query[:, part] @ key[:, part].T / np.sqrt(size))
        heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
    mixed = np.concatenate(heads, -1) @ own["attn.proj.weight"].T + own["attn.proj.bias"]
    tokens = tokens + own["ls1.gamma"] * mixed
    hidden = gelu(
        normed(tokens, own["norm2.weight"], own["norm2.bias"]) @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"]
    )
    return tokens + own["ls2.gamma"] * (hidden @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"])


def reference(image: NDArray[np.uint8], weights: dict[str, Rows], *, mean: Rows, std: Rows) -> Rows:
    """The normalised patch tokens of one image of the learned size, in float64."""
    pixels = (image / 255 - mean) / std
    patches = [
        pixels[PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)]
        for row in range(POSITIONS)
        for column in range(POSITIONS)
    ]
    kernel = weights["patch_embed.proj.weight"]
    tokens = [np.einsum("hwc,dchw->d", patch, kernel) + weights["patch_embed.proj.bias"] for patch in patches]
    positions = weights["pos_embed"][0]
    first = weights["cls_token"][0] + positions[:1]
    registers = weights.get("register_tokens", np.zeros((1, 0, WIDTH)))[0]
    rows = np.concatenate([first, registers, np.stack(tokens) + positions[1:]])
    for number in range(2):
        rows = block(rows, weights, f"blocks.{number}.")
    return normed(rows, weights["norm.weight"], weights["norm.bias"])[1 + len(registers) :]


@pytest.mark.parametrize("registers", [0, 2])
def test_patch_tokens_equal_a_forward_pass_in_numpy(tmp_path: Path, registers: int) -> None:
    weights = hub(registers=registers)
    encoder = DinoV2(str(write_hub(tmp_path / "hub", weights)), size=LEARNED, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.5))
    assert encoder.shape == (POSITIONS**2, WIDTH)
    (image,) = images(1)
    wide = {name: value.double().numpy() for name, value in weights.items()}
    expected = reference(image, wide, mean=np.array([0.5, 0.4, 0.3]), std=np.array([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(encoder.features(image[None])[0], expected, rtol=2e-3, atol=2e-3)  # float16
    assert expected.std() > 0.1


@pytest.mark.parametrize("registers", [0, 2])
def test_all_layouts_give_the_same_features_and_the_same_digest(tmp_path: Path, registers: int) -> None:
    weights = hub(registers=registers)
    encoders = [DinoV2(str(write(tmp_path / name, weights)), size=70) for name, write in LAYOUTS.items()]
    first, *others = [encoder.features(images(size=70)) for encoder in encoders]
    assert first.shape == (3, 25, WIDTH)
    for other in others:
        np.testing.assert_array_equal(other, first)
    assert len({encoder.digest for encoder in encoders}) == 1


def test_file_of_weights_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    folder = write_hub(tmp_path / "hub", hub())
    file = folder / "dinov2_tiny_pretrain.pth"
    assert DinoV2(str(file), size=LEARNED).digest == DinoV2(str(folder), size=LEARNED).digest


def network(weights: dict[str, torch.Tensor]) -> VisionTransformer:
    own = dino_weights(weights, Path("test"))
    made = VisionTransformer(Sizes.of(own, HEADS))
    made.load_state_dict(own)
    return made.requires_grad_(False)


def test_position_embedding_is_interpolated_bicubically_as_in_the_published_code() -> None:
    weights = hub()
    grid = weights["pos_embed"][:, 1:].reshape(1, POSITIONS, POSITIONS, WIDTH).permute(0, 3, 1, 2)
    side = 5
    nudged = F.interpolate(grid, scale_factor=(side + 0.1) / POSITIONS, mode="bicubic")
    assert nudged.shape[-2:] == (side, side)
    torch.testing.assert_close(network(weights)._positions(side), nudged.flatten(2).transpose(1, 2))


def test_position_embedding_is_antialiased_with_registers() -> None:
    weights = hub(registers=2)
    grid = weights["pos_embed"][:, 1:].reshape(1, POSITIONS, POSITIONS, WIDTH).permute(0, 3, 1, 2)
    smooth = F.interpolate(grid, (2, 2), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(network(weights)._positions(2), smooth)
    assert not torch.allclose(smooth, F.interpolate(grid, (2, 2), mode="bicubic").flatten(2).transpose(1, 2))


def test_position_embedding_of_the_learned_size_is_unchanged() -> None:
    weights = hub()
    assert torch.equal(network(weights)._positions(POSITIONS), weights["pos_embed"][:, 1:])


def test_half_precision_checkpoint_is_read_as_float32(tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    file = write_safetensors(folder, {name: value.half() for name, value in hub().items()}) / "model.safetensors"
    assert {value.dtype for value in read_weights(file).values()} == {torch.float32}


def test_random_weights_keep_the_shape_of_the_network(tmp_path: Path) -> None:
    encoder = DinoV2(str(write_hub(tmp_path / "hub", hub(registers=2))), size=LEARNED)
    random = RandomWeights(encoder)
    assert random.shape == encoder.shape
    features = random.features(images())
    assert not np.array_equal(features, encoder.features(images()))
    assert features.std(dtype=np.float64) == pytest.approx(1, abs=0.1)  # after the final layer norm


class Malicious:
    """Executes code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "no readable file of weights"),
        (pickle.dumps({"cls_token": Malicious()}), "no readable file of weights"),
        (hub() | {"blocks.0.mlp.w12.weight": torch.zeros(2, 2)}, r"'blocks.0.mlp.w12.weight' is unknown; supported"),
        ({"norm.weight": torch.zeros(2)}, "no DINOv2 network, because .*'class_token'.* are missing"),
        ({"model": hub()}, "expected tensors by name"),
        ({**hub(), "norm.bias": torch.zeros(3)}, r"such as 'norm.bias', which is \(3,\) in the file and \(128,\)"),
    ],
    ids=["bytes", "code", "swiglu", "other", "nested", "shape"],
)
def test_unfit_file_is_one_line_that_says_why(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=message) as error:
        DinoV2(str(file), size=LEARNED).digest  # noqa: B018
    assert "\n" not in str(error.value)
    assert not Path("executed").exists()


def test_folder_without_or_with_several_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no weights; expected"):
        DinoV2(str(tmp_path)).digest  # noqa: B018
    for name in ("a.pth", "b.pth"):
        torch.save(hub(), tmp_path / name)
    with pytest.raises(UserError, match=r"2 files of weights, a.pth, b.pth; name one"):
        DinoV2(str(tmp_path)).digest  # noqa: B018


def test_size_that_is_no_multiple_of_a_patch_is_refused(tmp_path: Path) -> None:
    folder = write_hub(tmp_path / "hub", hub())
    with pytest.raises(UserError, match="size is 200; allowed: multiples of 14"):
        DinoV2(str(folder), size=200).shape  # noqa: B018
