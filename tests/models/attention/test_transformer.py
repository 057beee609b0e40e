"""The transformer over frames: what sees what, an independent reference, and work that is left out."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamset.models.attention.transformer import Block, Dropout, FrameTransformer, visible_frames
from tests.builders import seeded, without_zeros
from tests.models.told.references import layer_norm

Array = NDArray[np.float64]
FRAMES, PATCHES, WIDTH = 3, 4, 6


def transformer(*, depth: int = 2, history: int = FRAMES) -> FrameTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FrameTransformer(WIDTH, patches=PATCHES, history=history, depth=depth, heads=2, head_size=4, hidden=8)
        without_zeros(network)
    return network.double()


def tokens(count: int = 2, *, frames: int = FRAMES) -> Tensor:
    return torch.randn(count, frames, PATCHES, WIDTH, generator=seeded(1), dtype=torch.float64)


def one_episode(count: int = 2, *, frames: int = FRAMES) -> Tensor:
    return visible_frames(torch.zeros(count, frames, dtype=torch.long))


def test_frames_see_themselves_and_earlier_frames_of_their_episode() -> None:
    visible = visible_frames(torch.tensor([[1, 1, 2], [3, 3, 3]]))
    assert visible.tolist() == [
        [[True, False, False], [True, True, False], [False, False, True]],
        [[True, False, False], [True, True, False], [True, True, True]],
    ]


def test_a_later_frame_changes_no_earlier_output() -> None:
    network, given = transformer(), tokens()
    changed = given.clone()
    changed[:, 1, :, 0] += 1
    before, after = network(given, one_episode()), network(changed, one_episode())
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.isclose(before[:, 1:], after[:, 1:]).any(dim=-1).all(dim=-1).any()


def test_every_patch_of_a_frame_sees_all_others_of_it() -> None:
    network, given = transformer(depth=1), tokens(1).requires_grad_()
    for patch in range(PATCHES):
        (gradient,) = torch.autograd.grad(network(given, one_episode(1))[0, 1, patch].square().sum(), given)
        assert gradient[0, :2].abs().sum(-1).gt(0).all()
        assert not gradient[0, 2].any()


def test_an_earlier_episode_in_the_window_changes_nothing() -> None:
    network, given = transformer(), tokens(1)
    visible = visible_frames(torch.tensor([[0, 1, 1]]))
    alone = network(given[:, 1:], one_episode(1, frames=2))
    torch.testing.assert_close(network(given, visible)[:, 1:], alone)


def test_the_same_frames_at_other_positions_give_another_output() -> None:
    network, given = transformer(), tokens(1, frames=1)
    repeated = given.expand(-1, 2, -1, -1)
    outputs = network(repeated, torch.eye(2, dtype=torch.bool)[None])
    torch.testing.assert_close(outputs[:, 0], outputs[:, 1])  # both are the first frame of their episode
    assert not torch.allclose(*network(repeated, one_episode(1, frames=2)).unbind(1))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_leaving_out_earlier_outputs_does_not_change_the_last(depth: int, frames: int) -> None:
    network, given, visible = transformer(depth=depth), tokens(frames=frames), one_episode(frames=frames)
    last = network(given, visible, last=True)
    assert last.shape == (2, 1, PATCHES, WIDTH)
    torch.testing.assert_close(last, network(given, visible)[:, -1:], rtol=1e-12, atol=1e-12)


def test_the_last_block_computes_only_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    original = Block.forward

    def counted(self: Block, given: Tensor, *settings: object, asking: int, **further: object) -> Tensor:
        asked.append((given.shape[1], asking))
        return original(self, given, *settings, asking=asking, **further)  # type: ignore[arg-type]

    monkeypatch.setattr(Block, "forward", counted)
    transformer()(tokens(), one_episode(), last=True)
    assert asked == [(12, 12), (12, 4)]


def test_a_block_equals_an_independent_reference() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = Block(WIDTH, heads=2, head_size=4, hidden=8)
        without_zeros(block)
    block = block.double()
    given = tokens(1).flatten(1, 2)
    mask = one_episode(1).repeat_interleave(PATCHES, 1).repeat_interleave(PATCHES, 2)
    expected = reference(block, given[0].numpy(), mask[0].numpy())
    actual = block(given, mask[:, None], asking=FRAMES * PATCHES)[0].detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def reference(block: Block, x: Array, mask: NDArray[np.bool_]) -> Array:
    """Pre-norm attention and hidden layer, token by token and head by head."""
    normed = layer_norm(x, numbers(block.norm.weight), numbers(block.norm.bias))
    queries = normed @ numbers(block.queries.weight).T
    keys, values = np.split(normed @ numbers(block.keys_and_values.weight).T, 2, axis=1)
    seen = np.zeros_like(queries)
    for head in (slice(0, 4), slice(4, 8)):
        for token in range(len(x)):
            weights = np.exp(keys[:, head] @ queries[token, head] / math.sqrt(4)) * mask[token]
            seen[token, head] = weights / weights.sum() @ values[:, head]
    x = x + linear(block.attended, seen)
    normed = layer_norm(x, numbers(block.hidden_norm.weight), numbers(block.hidden_norm.bias))
    hidden = linear(block.hidden, normed)
    activated = np.array([h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden.ravel()]).reshape(hidden.shape)
    return x + linear(block.output, activated)


def linear(layer: nn.Linear, x: Array) -> Array:
    return x @ numbers(layer.weight).T + numbers(layer.bias)


def numbers(values: Tensor) -> Array:
    return values.detach().numpy().astype(np.float64)


def test_dropout_keeps_the_mean_and_repeats_with_its_seed() -> None:
    ones = torch.ones(20_000)
    dropped = Dropout(0.25, seeded(0))(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(dropped, Dropout(0.25, seeded(0))(ones))
