"""The records that the folders exchange."""

from dataclasses import replace

import pytest
import torch

from dreamset.core.records import Loss, SequenceBatch, total_loss


def counting_batch() -> SequenceBatch:
    """Every value is 10 * sequence + row, so that a wrong slice has wrong values."""
    count = torch.arange(2)[:, None] * 10 + torch.arange(5)
    return SequenceBatch(
        observations={"state": count[..., None].float()},
        action=count[..., None].float() + 100,
        reward=count.float() + 200,
        is_first=count % 10 == 0,
        is_last=count % 10 == 4,
        is_terminal=count == 14,
        privileged={"truth": -count[..., None].float()},
        row=count + 300,
    )


def test_total_loss_is_the_weighted_sum_of_the_means() -> None:
    losses = {
        "a": Loss(torch.tensor([[1.0, 3.0]]), 0.5),  # mean 2
        "b": Loss(torch.tensor([[-4.0, 10.0]]), 2.0),  # mean 3
        "c": Loss(torch.tensor([[7.0, 7.0]])),  # the default weight is 1
    }
    assert total_loss(losses).item() == pytest.approx(0.5 * 2 + 2 * 3 + 7)
    assert total_loss({"b": losses["b"].weighted(-1.0)}).item() == pytest.approx(-3)


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 4)], [(2,), (2,)], [(2, 3, 1), (2, 3, 1)], [(2, 3), ()]])
def test_total_loss_refuses_losses_of_other_shapes_than_batch_by_time(shapes: list[tuple[int, ...]]) -> None:
    losses = {f"loss_{index}": Loss(torch.zeros(shape)) for index, shape in enumerate(shapes)}
    with pytest.raises(ValueError, match="loss_1") as error:
        total_loss(losses)
    assert str(shapes[1]) in str(error.value)


def test_slice_time_selects_the_same_rows_of_every_column() -> None:
    part = counting_batch().slice_time(1, 3)
    rows = torch.tensor([[1.0, 2.0], [11.0, 12.0]])
    assert torch.equal(part.observations["state"][..., 0], rows)
    assert torch.equal(part.action[..., 0], rows + 100)
    assert torch.equal(part.reward, rows + 200)
    assert torch.equal(part.privileged["truth"][..., 0], -rows)
    assert torch.equal(part.row, rows.long() + 300)
    last = counting_batch().slice_time(4, 5)
    assert last.is_last.all()
    assert last.is_terminal.squeeze(1).tolist() == [False, True]
    assert counting_batch().slice_time(0, 1).is_first.all()


def test_goals_have_no_rows_and_follow_their_batch() -> None:
    batch = replace(counting_batch(), goal={"state": torch.tensor([[7.0], [17.0]])})
    assert batch.slice_time(1, 3).goal == batch.goal
    doubled = batch.map(lambda value: value * 2).goal
    assert doubled is not None
    assert doubled["state"].tolist() == [[14.0], [34.0]]
    assert counting_batch().map(torch.clone).goal is None
