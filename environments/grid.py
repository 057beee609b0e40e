"""Worlds of square cells: layouts as text, moves between cells, and frames drawn by NumPy."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments.wrappers import Observation

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
WALL = "#"
VIDEO_SIZE = 128  # pixels of frames that are not observations
SMALLEST = 4  # pixels of a cell's edge
PAPER = np.array([0.25, 0.25, 0.28])  # walls, and what is outside a layout

Colour = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of a layout that are not walls, numbered row by row."""

    rows: tuple[str, ...]
    places: NDArray[np.int64]  # [C, 2], row and column
    neighbours: NDArray[np.int64]  # [C + 1, 4], the cell behind each move; C is a wall, behind which is a wall
    characters: NDArray[np.str_]  # [C]

    @classmethod
    def read(cls, rows: tuple[str, ...]) -> "Grid":
        """The grid of a layout whose rows have equal lengths."""
        places = [(y, x) for y, row in enumerate(rows) for x, character in enumerate(row) if character != WALL]
        number = {place: cell for cell, place in enumerate(places)}
        wall = len(places)
        neighbours = [[number.get((y + dy, x + dx), wall) for dy, dx in MOVES] for y, x in places]
        characters = np.array([rows[y][x] for y, x in places])
        return cls(rows, np.array(places), np.array([*neighbours, [wall] * len(MOVES)]), characters)

    @property
    def cells(self) -> int:
        """Their number, C."""
        return len(self.places)

    @property
    def edges(self) -> tuple[int, int]:
        """Rows and columns of the layout."""
        return len(self.rows), len(self.rows[0])

    @cached_property
    def place_vectors(self) -> NDArray[np.float32]:
        """Row and column of every cell as one-hot rows, [C, rows + columns]."""
        eyes = [np.eye(edge, dtype=np.float32)[self.places[:, axis]] for axis, edge in enumerate(self.edges)]
        return np.hstack(eyes)

    def cell_of(self, vectors: NDArray[Any]) -> NDArray[np.int64]:
        """Cells [...] of vectors [..., rows + columns and more]: the inverse of ``place_vectors``."""
        height, width = self.edges
        row, column = vectors[..., :height].argmax(-1), vectors[..., height : height + width].argmax(-1)
        cells: NDArray[np.int64] = self._cell_at[row, column]
        return cells

    @cached_property
    def _cell_at(self) -> NDArray[np.int64]:
        cells = np.zeros(self.edges, np.int64)
        cells[tuple(self.places.T)] = np.arange(self.cells)
        return cells


class Rules(Protocol):
    """A deterministic world whose states are integers."""

    @property
    def grid(self) -> Grid:
        """The cells."""

    @property
    def vector_size(self) -> int:
        """Numbers of a state vector."""

    def vectors(self, states: Any) -> NDArray[np.float32]:
        """State vectors [..., D] of states [...]."""

    def drawn(self, state: np.int64, *, size: int) -> NDArray[np.uint8]:
        """The frame of one state, [size, size, 3]."""


class GridWorld(gymnasium.Env[Observation, np.int64]):
    """What worlds of cells share: observations and frames. ``info["state"]`` is always the true state."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 - Gymnasium's own form
    render_mode = "rgb_array"

    def __init__(self, rules: Rules, start: int, *, actions: int, image_size: int | None) -> None:
        self.image_size = checked_size(image_size, rules.grid.edges)
        self.state = np.int64(start)
        self.action_space = spaces.Discrete(actions)
        state = spaces.Box(0.0, 1.0, (rules.vector_size,), np.float32)
        image = spaces.Box(0, 255, (image_size or 1, image_size or 1, 3), np.uint8)
        named: dict[str, spaces.Space[Any]] = {"state": state} if image_size is None else {"image": image}
        self.observation_space: spaces.Space[Any] = spaces.Dict(named)
        self._world = rules

    def render(self) -> NDArray[np.uint8]:
        """The world from above, [128, 128, 3]."""
        return self._world.drawn(self.state, size=VIDEO_SIZE)

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What ``info`` says of the state besides its vector."""

    def observe(self) -> tuple[Observation, dict[str, Any]]:
        """The observation and the info of the state."""
        vector = self._world.vectors(self.state)
        info = {"state": vector, **self.facts()}
        if self.image_size is None:
            return {"state": vector}, info
        return {"image": self._world.drawn(self.state, size=self.image_size)}, info


def checked_layout(layout: str | Sequence[str], known: Mapping[str, Sequence[str]], allowed: str) -> tuple[str, ...]:
    """The rows of a layout, all of one length.

    Args:
        layout: a name in ``known``, or rows of characters.
        known: layouts by name.
        allowed: the characters, with their meaning.

    Raises:
        UserError: if a name, a character or a row is wrong.
    """
    if isinstance(layout, str):
        if layout not in known:
            raise UserError(
                f"dataset.environment.layout is {layout!r}; allowed: {', '.join(known)}, or rows of characters; fix it"
            )
        layout = known[layout]
    rows = tuple(layout)
    if not rows or len({len(row) for row in rows}) > 1 or not rows[0]:
        lengths = sorted({len(row) for row in rows})
        raise UserError(f"dataset.environment.layout has rows of {lengths} characters; allowed: one length; fix it")
    for number, row in enumerate(rows):
        wrong = set(row) - set(allowed)
        if wrong:
            raise UserError(
                f"dataset.environment.layout has {min(wrong)!r} in row {number}; allowed: {' '.join(allowed)!r}; fix it"
            )
    return rows


def checked_size(image_size: int | None, edges: tuple[int, int]) -> int | None:
    """The edge of images, with enough pixels for every cell.

    Raises:
        UserError: if there are fewer.
    """
    least = SMALLEST * max(edges)
    if image_size is not None and image_size < least:
        raise UserError(
            f"dataset.environment.image_size is {image_size}; allowed: {least} or more for {edges[0]} rows of "
            f"{edges[1]} cells, or null for the state vector"
        )
    return image_size


@dataclass(frozen=True, slots=True)
class Mark:
    """A disc or a square on a cell."""

    place: Sequence[int]  # row and column
    colour: Colour
    radius: float  # in cells
    distance: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]  # np.hypot: a disc; np.maximum: a square


def drawn(ground: NDArray[np.float64], marks: Sequence[Mark], *, size: int) -> NDArray[np.uint8]:
    """Cells with antialiased marks on them, [size, size, 3].

    Args:
        ground: colours from 0 to 1 of the cells, [rows, columns, 3].
        marks: drawn in order; later marks cover earlier ones.
        size: edge of the frame in pixels.
    """
    edge = max(ground.shape[:2])
    square = np.broadcast_to(PAPER, (edge, edge, 3)).copy()
    square[: ground.shape[0], : ground.shape[1]] = ground
    across = (np.arange(size) + 0.5) * edge / size  # in cells
    nearest = across.astype(np.int64)
    image = square[nearest][:, nearest]
    for mark in marks:
        y, x = (np.abs(across - place - 0.5) for place in mark.place)
        covered = np.clip((mark.radius - mark.distance(y[:, None], x)) * size / edge + 0.5, 0, 1)[..., None]
        image += covered * (mark.colour - image)
    frame: NDArray[np.uint8] = np.rint(255 * image).astype(np.uint8)
    return frame
