"""Recurrent cells, which compute the deterministic state."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.models.layers import SILU_RMS_NORM, BlockLinear, Style, linear, truncated_normal_


class GRU(nn.Module):
    """The gated recurrent unit of Dreamer v1.

    Each gate's input kernel starts Glorot uniform and its recurrent kernel orthogonal. The published implementation
    initialises the kernels of all three gates as one, so that its input kernels start smaller.
    """

    def __init__(self, inputs: int, *, size: int) -> None:
        super().__init__()
        self.size = size
        self.cell = nn.GRUCell(inputs, size)
        for gate in range(3):  # each gate has its own kernels
            rows = slice(gate * size, (gate + 1) * size)
            nn.init.xavier_uniform_(self.cell.weight_ih.data[rows])
            nn.init.orthogonal_(self.cell.weight_hh.data[rows])
        nn.init.zeros_(self.cell.bias_ih)
        nn.init.zeros_(self.cell.bias_hh)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The next deterministic state [B, D]."""
        new: Tensor = self.cell(inputs, state)
        return new


class LayerNormGRU(nn.Module):
    """The cell of Dreamer v2: one kernel on [x, h] and one layer norm over all gates.

    r, c, u = LN(W [x, h] + b); h' = u tanh(r c) + (1 - u) h with r = sigmoid(r) and u = sigmoid(u + update_bias). The
    reset gate multiplies the whole candidate, inputs included. The negative bias makes the initial updates small.
    """

    def __init__(self, inputs: int, *, size: int, update_bias: float = -1.0) -> None:
        super().__init__()
        self.size = size
        self.update_bias = update_bias
        self.gates = linear(inputs + size, 3 * size)
        self.norm = nn.LayerNorm(3 * size, eps=1e-3)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The next deterministic state [B, D]."""
        gates = self.norm(self.gates(torch.cat([inputs, state], dim=-1)))  # [B, 3 D]
        return gated(gates.unflatten(-1, (3, -1)).unbind(-2), state, self.update_bias)


class BlockGRU(nn.Module):
    """The cell of Dreamer v3: recurrent kernels are block-diagonal, and blocks exchange a narrow summary of the state.

    m = act(norm(W_m h)) is a summary of the whole state. Block k of the hidden layer reads its own part of the state
    and all of m and x: y = act(norm(blocks(h) + W_x [m, x])). The gates r, c, u of block k come from block k of y, and
    h' = u tanh(r c) + (1 - u) h as in ``LayerNormGRU``, without a norm on the gates.

    The published cell has one block-diagonal kernel and repeats m and x as inputs [h_k, m, x] of every block k. The
    rows for m and x of all blocks form one dense kernel, so this implementation repeats nothing.
    """

    def __init__(
        self,
        inputs: int,
        *,
        size: int,
        hidden: int,
        blocks: int = 8,
        update_bias: float = -1.0,
        style: Style = SILU_RMS_NORM,
    ) -> None:
        super().__init__()
        if size % blocks:
            raise UserError(
                f"a state of {size} units cannot be divided into {blocks} equal blocks; set network.deterministic to "
                f"a multiple of {blocks} or change world_model.dynamics.cell.blocks"
            )
        self.size = size
        self.update_bias = update_bias
        self.summary = style.trunk(size, hidden=hidden, layers=1)
        fan_in = size + blocks * (hidden + inputs)  # fan-in of the published kernel, which repeats m and x
        self.from_blocks = BlockLinear(size, size, blocks=blocks, bias=False, fan_in=fan_in)
        self.from_shared = nn.Linear(hidden + inputs, size)
        truncated_normal_(self.from_shared.weight, fan_in=fan_in)
        nn.init.zeros_(self.from_shared.bias)
        self.after = style.after(size)
        self.gates = BlockLinear(size, 3 * size, blocks=blocks)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The next deterministic state [B, D]."""
        shared = self.from_shared(torch.cat([self.summary(state), inputs], dim=-1))  # [B, D]
        hidden = self.after(self.from_blocks(state).flatten(-2) + shared)
        gates = self.gates(hidden).unflatten(-1, (3, -1)).movedim(-2, 0).flatten(-2)  # [3, B, D]
        return gated(gates.unbind(0), state, self.update_bias)


def gated(gates: Sequence[Tensor], state: Tensor, update_bias: float) -> Tensor:
    """h' = u tanh(r c) + (1 - u) h; ``gates`` are r, c and u before their nonlinearities, [B, D] each."""
    reset, candidate, update = gates
    new = torch.tanh(torch.sigmoid(reset) * candidate)
    return torch.lerp(state, new, torch.sigmoid(update + update_bias))
