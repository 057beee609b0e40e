"""Norms of the latent state."""

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.models.told.norms import SimNorm, simplicial, unnormalized
from tests.builders import seeded
from tests.models.told.references import layer_norm, sim_norm


def test_every_group_of_simnorm_is_the_softmax_of_its_own_elements() -> None:
    latent = torch.randn(4, 3, 12, dtype=torch.float64, generator=seeded()) * 5
    normed = SimNorm(12, group=4)(latent)
    np.testing.assert_allclose(normed.numpy(), sim_norm(latent.numpy(), group=4), rtol=1e-12)
    groups = normed.reshape(4, 3, 3, 4)
    torch.testing.assert_close(groups.sum(-1), torch.ones(4, 3, 3, dtype=torch.float64))
    assert (groups > 0).all()
    changed = latent.clone()
    changed[..., 5] += 1  # of the second group
    other = (SimNorm(12, group=4)(changed) != normed).reshape(4, 3, 3, 4)
    assert other[:, :, 1].all()
    assert not other[:, :, [0, 2]].any()


@pytest.mark.parametrize("group", [5, 0])
def test_simnorm_refuses_a_size_that_is_no_multiple_of_the_group(group: int) -> None:
    with pytest.raises(UserError, match=rf"latent has 12 elements and 'group' is {group}; allowed: a divisor"):
        SimNorm(12, group=group)


def test_simplicial_normalises_all_elements_before_the_groups() -> None:
    latent = torch.randn(5, 16, dtype=torch.float64, generator=seeded()) * 5 + 2
    expected = sim_norm(layer_norm(latent.numpy()), group=8)
    np.testing.assert_allclose(simplicial(16).double()(latent).detach().numpy(), expected, rtol=1e-9)


def test_unnormalized_changes_nothing() -> None:
    latent = torch.randn(5, 7, generator=seeded())
    assert torch.equal(unnormalized(7)(latent), latent)
