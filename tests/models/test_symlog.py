"""The symmetric logarithm and its inverse."""

import numpy as np
import torch

from dreamset.models.symlog import symexp, symlog

VALUES = np.array([-1e6, -3.0, -1e-7, 0.0, 1e-7, 0.5, 20.0, 1e6])


def test_symlog_is_the_signed_logarithm_of_magnitude_plus_one() -> None:
    expected = np.sign(VALUES) * np.log(np.abs(VALUES) + 1)
    np.testing.assert_allclose(symlog(torch.from_numpy(VALUES)).numpy(), expected, rtol=1e-9)


def test_symexp_is_the_inverse_of_symlog() -> None:
    np.testing.assert_allclose(symexp(symlog(torch.from_numpy(VALUES))).numpy(), VALUES, rtol=1e-12)
    levels = np.array([-5.0, 0.0, 2.0])
    expected = np.sign(levels) * (np.exp(np.abs(levels)) - 1)
    np.testing.assert_allclose(symexp(torch.from_numpy(levels)).numpy(), expected, rtol=1e-12)


def test_symlog_and_symexp_stay_precise_for_small_numbers() -> None:
    tiny = torch.tensor([1e-8, -1e-8])
    torch.testing.assert_close(symlog(tiny), tiny, rtol=1e-6, atol=0)
    torch.testing.assert_close(symexp(tiny), tiny, rtol=1e-6, atol=0)
