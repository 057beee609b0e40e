"""Recurrent cells: the deterministic half of the state."""

from torch import Tensor, nn


class GRU(nn.Module):
    """The gated recurrent unit of Dreamer v1.

    Input and recurrent kernels start as Glorot uniform and orthogonal, as in the published implementation.
    """

    def __init__(self, inputs: int, *, size: int) -> None:
        super().__init__()
        self.size = size
        self.cell = nn.GRUCell(inputs, size)
        for gate in range(3):  # each gate has kernels of its own
            rows = slice(gate * size, (gate + 1) * size)
            nn.init.xavier_uniform_(self.cell.weight_ih.data[rows])
            nn.init.orthogonal_(self.cell.weight_hh.data[rows])
        nn.init.zeros_(self.cell.bias_ih)
        nn.init.zeros_(self.cell.bias_hh)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The next deterministic state [B, D]."""
        new: Tensor = self.cell(inputs, state)
        return new
