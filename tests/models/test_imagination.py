"""Rollouts without observations, as programs of users call them."""

import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.models.imagination import imagine, predict
from tests.builders import tiny_model


def test_without_a_generator_equal_calls_give_equal_dreams_of_seed_zero() -> None:
    model = tiny_model()
    action = torch.zeros(3, 4, model.spec.action.size)
    start = model.initial(3)
    default = predict(model, start, action)
    seeded = predict(model, start, action, torch.Generator().manual_seed(0))
    other = predict(model, start, action, torch.Generator().manual_seed(1))
    torch.testing.assert_close(default.features, seeded.features, rtol=0, atol=0)
    assert not default.features.equal(other.features)


def test_prediction_is_imagination_under_the_given_actions() -> None:
    model = tiny_model()
    action = torch.linspace(-1, 1, 3 * 4 * model.spec.action.size).reshape(3, 4, -1)
    steps = iter(range(4))
    expected = imagine(model, model.initial(3), lambda _: action[:, next(steps)], horizon=4)
    torch.testing.assert_close(predict(model, model.initial(3), action).features, expected.features, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 1), (2, 4, 1), (3, 4, 1, 1)])
def test_actions_of_another_shape_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    model = tiny_model()
    with pytest.raises(UserError, match=r"^the shape of action is .*; allowed: \[N, K, A\], here 3 starting") as error:
        predict(model, model.initial(3), torch.zeros(shape))
    assert str(list(shape)) in str(error.value)
    assert "\n" not in str(error.value)
