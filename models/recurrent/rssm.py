"""The recurrent state-space model (PlaNet; Dreamer v1, section 2 and appendix A).

Time diagram of ``observe``; row ``t`` is arrival at time ``t``::

      action[t] (a_{t-1})     embedding[t]
            |                      |
    z_{t-1} +--> cell --> h_t -----+--> posterior q(z_t | h_t, e_t) --> z_t --> next row
    h_{t-1} ------^        |
                           +----------> prior p(z_t | h_t)

``step`` is the same with z sampled from the prior instead of the posterior.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from dreamset.core.records import Rollout
from dreamset.core.states import map_state
from dreamset.models.layers import ELU, Style, mlp
from dreamset.models.recurrent.latents import Latent


@dataclass(frozen=True, slots=True)
class RecurrentState:
    """The model's state s_t: the memory of the recurrent cell and the sampled latent."""

    deterministic: Tensor  # [..., D]
    stochastic: Tensor  # [..., Z]

    @property
    def features(self) -> Tensor:
        """Both concatenated, [..., F]."""
        return torch.cat([self.deterministic, self.stochastic], dim=-1)


@dataclass(frozen=True, slots=True)
class Distributions:
    """The parameters of the posterior and the prior of each row, and what further priors need."""

    posterior: Tensor  # [B, T, P]
    prior: Tensor  # [B, T, P]
    noise: Sequence[Tensor]  # [B, T, Z] for the priors of 2, 3, ... steps; empty without overshooting


def distributions(rollout: Rollout[RecurrentState]) -> Distributions:
    """The details of a rollout of an RSSM."""
    assert isinstance(rollout.details, Distributions)
    return rollout.details


class Cell(Protocol):
    """A recurrent cell of ``size`` units."""

    size: int

    def __call__(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The next deterministic state [B, D]."""


class Inputs(Protocol):
    """Combines z_{t-1} and a_{t-1} into the cell's input."""

    size: int  # length of the cell's input
    stochastic_bias: bool  # whether the projection of z has its own bias

    def prepare(self, action: Tensor) -> Tensor:
        """The part of the computation that needs only the projected actions [..., hidden], for all rows at once."""

    def __call__(self, stochastic: Tensor, prepared: Tensor) -> Tensor:
        """The cell's input [B, size] from the projection of z [B, hidden] and the output of ``prepare``."""


class JointInputs(nn.Module):
    """x = act(norm(W_z z + W_a a + b)): one hidden layer for both (Dreamer v1 and v2)."""

    stochastic_bias = False

    def __init__(self, hidden: int, style: Style) -> None:
        super().__init__()
        self.size = hidden
        self.after = style.after(hidden)

    def prepare(self, action: Tensor) -> Tensor:
        """``action`` unchanged, because the nonlinearity needs z."""
        return action

    def forward(self, stochastic: Tensor, prepared: Tensor) -> Tensor:
        """[B, hidden]."""
        joint: Tensor = self.after(prepared + stochastic)
        return joint


class SeparateInputs(nn.Module):
    """x = [act(norm(W_z z + b_z)), act(norm(W_a a + b_a))]: a hidden layer for each (Dreamer v3)."""

    stochastic_bias = True

    def __init__(self, hidden: int, style: Style) -> None:
        super().__init__()
        self.size = 2 * hidden
        self.after_stochastic = style.after(hidden)
        self.after_action = style.after(hidden)

    def prepare(self, action: Tensor) -> Tensor:
        """The hidden layer of the actions, [..., hidden]."""
        prepared: Tensor = self.after_action(action)
        return prepared

    def forward(self, stochastic: Tensor, prepared: Tensor) -> Tensor:
        """[B, 2 hidden]."""
        return torch.cat([self.after_stochastic(stochastic), prepared], dim=-1)


class RSSM(nn.Module):
    """Deterministic and stochastic state, prior and posterior.

    The loop over time computes only what is recurrent. The projections of embeddings and actions and the whole prior
    are matrix products over all rows at once.

    Args:
        embedding_size: E.
        action_size: A.
        latent: the family of z.
        cell: constructs the recurrent cell from the size of its input.
        hidden: units of the hidden layers around the cell.
        inputs: constructs the layer before the cell from ``hidden`` and ``style``.
        prior_layers: hidden layers of the prior; the posterior has one.
        style: activation, norm and initialisation of all these layers.
    """

    def __init__(
        self,
        embedding_size: int,
        action_size: int,
        *,
        latent: Latent,
        cell: Callable[[int], Cell],
        hidden: int,
        inputs: Callable[[int, Style], Inputs] = JointInputs,
        prior_layers: int = 1,
        style: Style = ELU,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.action_size = action_size
        self.latent = latent
        self.inputs = inputs(hidden, style)
        self.cell = cell(self.inputs.size)
        deterministic = self.cell.size
        self.feature_size = deterministic + latent.size
        self.from_stochastic = style.linear(latent.size, hidden, bias=self.inputs.stochastic_bias)
        self.from_action = style.linear(action_size, hidden)
        self.new_prior = partial(
            mlp, deterministic, latent.parameter_size, hidden=hidden, layers=prior_layers, style=style
        )  # constructs a new network with the prior's architecture
        self.prior_head = self.new_prior()
        self.from_deterministic = style.linear(deterministic, hidden, bias=False)
        self.from_embedding = style.linear(embedding_size, hidden)
        self.after_observation = style.after(hidden)
        self.posterior_out = style.linear(hidden, latent.parameter_size)

    def initial(self, count: int) -> RecurrentState:
        """The state before any observation: zeros."""
        weight = self.posterior_out.weight
        return RecurrentState(weight.new_zeros(count, self.cell.size), weight.new_zeros(count, self.latent.size))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Random numbers for a batch of z of this shape, [*shape, Z]."""
        return self.latent.noise(shape, generator)

    def features(self, state: RecurrentState) -> Tensor:
        """The vector that heads, probes and behaviours read: [..., F]."""
        return state.features

    def state_of(self, features: Tensor) -> RecurrentState:
        """The inverse of ``features``: the state of these features, [..., F]."""
        return RecurrentState(*features.split([self.cell.size, self.latent.size], dim=-1))

    def observe(
        self,
        embedding: Tensor,
        action: Tensor,
        is_first: Tensor,
        generator: torch.Generator,
        start: RecurrentState | None = None,
        *,
        distance: int = 1,
    ) -> Rollout[RecurrentState]:
        """Filters a batch of sequences.

        Args:
            embedding: [B, T, E].
            action: [B, T, A] in [-1, 1]; ``action[:, t]`` led to ``embedding[:, t]``.
            is_first: [B, T]; where it is true, previous state and action are ignored: a sequence may span episodes.
            generator: source of the posterior's samples.
            start: state before row 0; zeros by default.
            distance: D, the most steps of ``further_priors``; 1 draws no numbers for them.
        """
        batch, time = is_first.shape
        state = self.initial(batch) if start is None else start
        keep = (~is_first).to(action.dtype).t().unsqueeze(-1)  # [T, B, 1]
        resets: list[bool] = is_first.any(dim=0).tolist()
        actions = self.inputs.prepare(self.from_action(action.transpose(0, 1) * keep))  # [T, B, hidden]
        embeddings = self.from_embedding(embedding.transpose(0, 1))  # [T, B, hidden]
        noise = self.latent.noise((time, batch), generator)  # [T, B, Z]
        deterministic, stochastic, posteriors = [], [], []
        h, z = state.deterministic, state.stochastic
        for t in range(time):
            if resets[t]:
                h, z = h * keep[t], z * keep[t]
            h, z, posterior = self._filter(h, z, actions[t], embeddings[t], noise[t])
            deterministic.append(h)
            stochastic.append(z)
            posteriors.append(posterior)
        states = RecurrentState(torch.stack(deterministic, dim=1), torch.stack(stochastic, dim=1))  # [B, T, ...]
        furthest = max(min(distance, time - 1), 1)  # steps that fit into the window
        further = [self.latent.noise((batch, time), generator) for _ in range(furthest - 1)]
        details = Distributions(torch.stack(posteriors, dim=1), self.prior_head(states.deterministic), further)
        return Rollout(states, states.features, embedding, details)

    def filter(self, state: RecurrentState, action: Tensor, embedding: Tensor, noise: Tensor) -> RecurrentState:
        """One row of ``observe``: a sample of the posterior after ``action`` [N, A] and ``embedding`` [N, E]."""
        prepared, projected = self.inputs.prepare(self.from_action(action)), self.from_embedding(embedding)
        h, z, _ = self._filter(state.deterministic, state.stochastic, prepared, projected, noise)
        return RecurrentState(h, z)

    def _filter(
        self, h: Tensor, z: Tensor, action: Tensor, embedding: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h_t, z_t and the posterior's parameters from the previous h and z, the prepared action, the projected e_t."""
        h = self.cell(self.inputs(self.from_stochastic(z), action), h)
        posterior: Tensor = self.posterior_out(self.after_observation(embedding + self.from_deterministic(h)))
        return h, self.latent.sample(posterior, noise), posterior

    def step(self, state: RecurrentState, action: Tensor, noise: Tensor) -> RecurrentState:
        """One imagined step: a sample of the prior after ``action`` [N, A]."""
        deterministic = self._advance(state, self.inputs.prepare(self.from_action(action)))
        return RecurrentState(deterministic, self.latent.sample(self.prior_head(deterministic), noise))

    def further_priors(
        self, states: RecurrentState, prior: Tensor, action: Tensor, is_first: Tensor, noise: Sequence[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The priors p(z_t | s_{t-d}, actions) of every row t after d = 2, 3, ... imagined steps.

        Each starts at the posterior's sample in row t - d and samples the prior at every row between. All rows take a
        step at once.

        Args:
            states: the posterior's samples, [B, T, ...].
            prior: [B, T, P] parameters after one step.
            action: [B, T, A] in [-1, 1]; ``action[:, t]`` led to row t.
            is_first: [B, T].
            noise: [B, T, Z] for the samples of every row after 1, 2, ... steps.

        Yields:
            Parameters [B, T, P], and where they are valid, [B, T]: rows whose start is in the window and the same
            episode. Other rows hold arbitrary finite numbers.
        """
        prepared = self.inputs.prepare(self.from_action(action)).flatten(0, 1)  # [B * T, hidden]
        follows = ~is_first  # rows that follow the one before
        follows[:, 0] = False
        deterministic, valid = states.deterministic, follows
        for numbers in noise:
            state = RecurrentState(deterministic, self.latent.sample(prior, numbers))
            previous = map_state(lambda value: value.roll(1, dims=1).flatten(0, 1), state)  # row t has that of t - 1
            deterministic = self._advance(previous, prepared).unflatten(0, is_first.shape)
            prior, valid = self.prior_head(deterministic), valid.roll(1, dims=1) & follows
            yield prior, valid

    def _advance(self, state: RecurrentState, action: Tensor) -> Tensor:
        """The next deterministic state [N, D] after the prepared action [N, hidden]."""
        return self.cell(self.inputs(self.from_stochastic(state.stochastic), action), state.deterministic)
