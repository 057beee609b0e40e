"""The RSSM of v2 and v3, compared with NumPy loops; ``test_rssm.py`` tests the laws of the time axis."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.models.layers import elu_layer_norm, silu_rms_norm
from dreamset.models.recurrent.cells import BlockGRU, LayerNormGRU
from dreamset.models.recurrent.latents import CategoricalLatent
from dreamset.models.recurrent.rssm import RSSM, RecurrentState, SeparateInputs
from tests.builders import seeded
from tests.models import references
from tests.models.references import Array, below, elu, layer_norm, rms_norm, silu

BATCH, TIME, EMBEDDING, ACTION, SIZE, HIDDEN, VARIABLES, CLASSES = 2, 4, 5, 3, 8, 6, 3, 4
LATENT = VARIABLES * CLASSES


def drawn(model: RSSM) -> RSSM:
    generator = seeded()
    for parameter in model.double().parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64, generator=generator) * 0.5
    return model


def v2(**options: object) -> RSSM:
    latent = CategoricalLatent(VARIABLES, CLASSES)
    return drawn(
        RSSM(
            EMBEDDING,
            ACTION,
            latent=latent,
            cell=lambda inputs: LayerNormGRU(inputs, size=SIZE),
            hidden=HIDDEN,
            **options,
        )
    )


def v3() -> RSSM:
    return drawn(
        RSSM(
            EMBEDDING,
            ACTION,
            latent=CategoricalLatent(VARIABLES, CLASSES, unimix=0.2),
            cell=lambda inputs: BlockGRU(inputs, size=SIZE, hidden=HIDDEN, blocks=2),
            hidden=HIDDEN,
            inputs=SeparateInputs,
            prior_layers=2,
            style=silu_rms_norm(),
        )
    )


class Reference:
    """One row of one sequence with the weights of a model. Subclasses define the layers."""

    unimix = 0.0

    def __init__(self, model: nn.Module) -> None:
        self.w = references.weights_of(model)

    def dense(self, name: str, x: Array) -> Array:
        return self.w[f"{name}.weight"] @ x + self.w[f"{name}.bias"]

    def sample(self, logits: Array, noise: Array) -> Array:
        raw = logits.reshape(VARIABLES, CLASSES)
        probs = np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)
        scores = np.log((1 - self.unimix) * probs + self.unimix / CLASSES) + noise.reshape(VARIABLES, CLASSES)
        return np.eye(CLASSES)[scores.argmax(-1)].reshape(-1)


class V2(Reference):
    def cell(self, h: Array, z: Array, action: Array) -> Array:
        kernel = np.concatenate([self.w["from_stochastic.weight"], self.w["from_action.weight"]], axis=1)
        x = elu(kernel @ np.concatenate([z, action]) + self.w["from_action.bias"])
        return references.layer_norm_gru(below(self.w, "cell"), x, h)

    def prior(self, h: Array) -> Array:
        return self.dense("prior_head.2", elu(self.dense("prior_head.0", h)))

    def posterior(self, h: Array, embedding: Array) -> Array:
        hidden = self.w["from_deterministic.weight"] @ h + self.dense("from_embedding", embedding)
        return self.dense("posterior_out", elu(hidden))


class NormedV2(Reference):
    """With the optional layer norm before every activation."""

    def hidden(self, name: str, x: Array) -> Array:
        return elu(layer_norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"]))

    def cell(self, h: Array, z: Array, action: Array) -> Array:
        x = self.w["from_stochastic.weight"] @ z + self.dense("from_action", action)
        return references.layer_norm_gru(below(self.w, "cell"), self.hidden("inputs.after.0", x), h)

    def prior(self, h: Array) -> Array:
        return self.dense("prior_head.3", self.hidden("prior_head.1", self.dense("prior_head.0", h)))

    def posterior(self, h: Array, embedding: Array) -> Array:
        hidden = self.w["from_deterministic.weight"] @ h + self.dense("from_embedding", embedding)
        return self.dense("posterior_out", self.hidden("after_observation.0", hidden))


class V3(Reference):
    unimix = 0.2

    def hidden(self, name: str, x: Array) -> Array:
        return silu(rms_norm(x, self.w[f"{name}.weight"]))

    def cell(self, h: Array, z: Array, action: Array) -> Array:
        from_z = self.hidden("inputs.after_stochastic.0", self.dense("from_stochastic", z))
        from_a = self.hidden("inputs.after_action.0", self.dense("from_action", action))
        return references.block_gru(below(self.w, "cell"), np.concatenate([from_z, from_a]), h)

    def prior(self, h: Array) -> Array:
        first = self.hidden("prior_head.1", self.dense("prior_head.0", h))
        return self.dense("prior_head.6", self.hidden("prior_head.4", self.dense("prior_head.3", first)))

    def posterior(self, h: Array, embedding: Array) -> Array:
        hidden = self.w["from_deterministic.weight"] @ h + self.dense("from_embedding", embedding)
        return self.dense("posterior_out", self.hidden("after_observation.0", hidden))


GENERATIONS = [(v2, V2), (lambda: v2(style=elu_layer_norm()), NormedV2), (v3, V3)]
every_generation = pytest.mark.parametrize(("make", "reference"), GENERATIONS, ids=["v2", "v2 with norm", "v3"])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


@every_generation
def test_observe_equals_a_loop_over_rows_and_sequences(
    make: Callable[[], RSSM], reference: type[Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    embedding, action, noise = (
        draw(BATCH, TIME, EMBEDDING),
        draw(BATCH, TIME, ACTION, seed=1),
        draw(TIME, BATCH, LATENT),
    )

    def given(shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG001
        assert tuple(shape) == (TIME, BATCH)
        return noise

    monkeypatch.setattr(model.latent, "noise", given)
    is_first = torch.tensor([[True, False, False, False], [True, False, True, False]])
    rollout = model.observe(embedding, action, is_first, seeded())
    expected = reference(model)
    for b in range(BATCH):
        for t in range(TIME):
            if is_first[b, t]:
                h, z = np.zeros(SIZE), np.zeros(LATENT)
            taken = np.zeros(ACTION) if is_first[b, t] else action[b, t].numpy()
            h = expected.cell(h, z, taken)
            posterior = expected.posterior(h, embedding[b, t].numpy())
            z = expected.sample(posterior, noise[t, b].numpy())
            got = rollout.details.posterior[b, t], rollout.details.prior[b, t], rollout.features[b, t]
            for value, wanted in zip(got, (posterior, expected.prior(h), np.concatenate([h, z])), strict=True):
                np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=1e-9, atol=1e-12, err_msg=f"{b} {t}")


@every_generation
def test_step_applies_the_cell_and_samples_the_prior(make: Callable[[], RSSM], reference: type[Reference]) -> None:
    model = make()
    before = RecurrentState(draw(BATCH, SIZE, seed=2), draw(BATCH, LATENT, seed=3))
    action, noise = draw(BATCH, ACTION, seed=4), draw(BATCH, LATENT, seed=5)
    after = model.step(before, action, noise)
    expected = reference(model)
    for b in range(BATCH):
        h = expected.cell(before.deterministic[b].numpy(), before.stochastic[b].numpy(), action[b].numpy())
        z = expected.sample(expected.prior(h), noise[b].numpy())
        np.testing.assert_allclose(after.features[b].detach().numpy(), np.concatenate([h, z]), rtol=1e-9, atol=1e-12)


@every_generation
def test_gradients_flow_to_earlier_rows_through_one_hot_samples(
    make: Callable[[], RSSM],
    reference: type[Reference],  # noqa: ARG001
) -> None:
    """Only z depends on the first embedding; the last posterior has a straight-through gradient to it."""
    model = make()
    embedding = draw(1, TIME, EMBEDDING).requires_grad_()
    is_first = torch.tensor([[True, False, False, False]])
    rollout = model.observe(embedding, draw(1, TIME, ACTION), is_first, seeded())
    (gradient,) = torch.autograd.grad(rollout.details.posterior[:, -1].sum(), embedding)
    assert (gradient[0].abs().amax(-1) > 1e-9).all()
