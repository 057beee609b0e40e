"""Images from patch features: place by place, for every size of frame and map."""

import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.models.attention.decoder import PatchImageDecoder
from dreamset.pipeline.evaluation.open_loop import new_probe_decoder
from tests.builders import seeded, tiny_model
from tests.models.attention.frames import frames_model, frames_spec


def decoder(patches: int, size: int, *, channels: int = 3, depth: int = 2) -> PatchImageDecoder:
    spec = ArraySpec((size, size, 3), "uint8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PatchImageDecoder(patches * channels, spec, depth=depth, patches=patches, channels=channels)


@pytest.mark.parametrize(("patches", "size"), [(36, 96), (9, 96), (36, 64), (4, 7), (196, 224), (1, 16), (16, 4)])
def test_frames_of_every_size_are_decoded(patches: int, size: int) -> None:
    predicted = decoder(patches, size)(torch.randn(2, 3, patches * 3, generator=seeded()))
    assert predicted.mean.shape == (2, 3, 3, size, size)
    target = decoder(patches, size).target(torch.zeros(2, 3, size, size, 3, dtype=torch.uint8))
    assert predicted.log_prob(target).shape == (2, 3)


def test_a_patch_changes_the_image_at_its_place_only() -> None:
    network, features = decoder(64, 64), torch.randn(1, 64 * 3, generator=seeded())
    changed = features.clone()
    changed[:, 3 * (8 * 1 + 6)] += 1  # the patch in row 1 and column 6
    moved = (network(changed).mean - network(features).mean)[0].abs().sum(0) > 1e-7
    rows, columns = torch.nonzero(moved, as_tuple=True)
    assert rows.max() < 32
    assert columns.min() >= 32
    assert moved[12, 52]


def test_features_beyond_the_patches_are_not_read() -> None:
    spec = ArraySpec((16, 16, 3), "uint8")
    network = PatchImageDecoder(14, spec, depth=2, patches=4, channels=3)
    features = torch.randn(1, 14, generator=seeded())
    other = torch.cat([features[:, :12], features[:, 12:] + 1], dim=1)
    assert torch.equal(network(features).mean, network(other).mean)


@pytest.mark.parametrize(("patches", "size"), [(5, 64), (100, 8)])
def test_maps_that_do_not_fit_are_refused(patches: int, size: int) -> None:
    with pytest.raises(UserError, match=f"cannot be decoded from {patches} patches"):
        decoder(patches, size)


def test_the_probe_decodes_patches_place_by_place_and_other_features_densely() -> None:
    spec = frames_spec(image=ArraySpec((16, 16, 3), "uint8"))
    sizes = {"depth": 2, "hidden": 8, "layers": 1}
    of_patches = new_probe_decoder(frames_model(spec=spec), **sizes).decoders["image"]
    assert isinstance(of_patches, PatchImageDecoder)
    assert not isinstance(new_probe_decoder(tiny_model(), **sizes).decoders["image"], PatchImageDecoder)


def test_an_image_is_learned_from_the_patches_that_show_it() -> None:
    """Every patch holds the brightness of its place; after a few updates the decoder draws it."""
    network, generator = decoder(16, 16, channels=1, depth=4), seeded(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        brightness = torch.rand(16, 4, 4, generator=generator)
        image = (255 * brightness).to(torch.uint8).repeat_interleave(4, 1).repeat_interleave(4, 2)
        target = network.target(image[..., None].expand(-1, -1, -1, 3))
        loss = (network(brightness.flatten(1)).mean - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.15 * losses[0]
