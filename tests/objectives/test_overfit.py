"""Every generation can overfit one tiny batch: each loss approaches its known lower bound."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamset.core.records import SequenceBatch
from dreamset.objectives.base import Objective
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded, tiny_batch, tiny_config, tiny_spec

UPDATES = 200
LEFT = 0.15  # allowed remaining fraction of the distance between the first loss and its lower bound
SIZES = ("network.hidden=32", "network.deterministic=32", "network.depth=4")
WEIGHTS = ("weights.reward=1.0", "weights.kl=1.0")  # Dreamer v3 has weights of its own
UNIT_NORMAL = 0.5 * math.log(2 * math.pi)  # -ln N(x; x, 1)


def two_hot_floor(batch: SequenceBatch) -> float:
    """The entropy of the targets, which is the lowest possible cross-entropy."""
    even = np.linspace(-20, 20, 255)
    bins, reward = np.sign(even) * np.expm1(np.abs(even)), batch.reward.double().numpy()
    below = np.searchsorted(bins, reward) - 1
    share = (reward - bins[below]) / (bins[below + 1] - bins[below])
    return float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).mean())


def continue_floor(batch: SequenceBatch, discount: float) -> float:
    """The entropy of the soft targets."""
    target = discount * (~batch.is_terminal).double()
    return float((torch.special.entr(target) + torch.special.entr(1 - target)).mean())


def floors(generation: str, batch: SequenceBatch) -> dict[str, float]:
    """Each loss of a perfect model of the batch; for the KL terms, their free nats."""
    if generation == "dreamer_v3":
        return {
            "dynamics": 1.0,
            "representation": 1.0,
            "reward": two_hot_floor(batch),
            "continue": continue_floor(batch, 1 - 1 / 333),
            "reconstruction.image": 0.0,
            "reconstruction.state": 0.0,
        }
    published = generation == "dreamer_v2"
    return {
        "kl": 1.0 if published else 0.0,
        "reward": UNIT_NORMAL,
        "continue": continue_floor(batch, 0.99 if published else 1.0),
        "reconstruction.image": 16 * 16 * 3 * UNIT_NORMAL,
        "reconstruction.state": 3 * UNIT_NORMAL,
    }


def trainer(generation: str, *overrides: str) -> WorldModelTrainer:
    weights = () if generation == "dreamer_v3" else WEIGHTS
    config = tiny_config(*SIZES, *weights, f"world_model={generation}", *overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_part(config["world_model"], tiny_spec())
        objective: Objective = build_part(config["objective"], model)
    return WorldModelTrainer(
        model,
        objective,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
        clip_norm=100.0,
        generator=seeded(),
    )


def learn(learner: WorldModelTrainer, batch: SequenceBatch) -> tuple[dict[str, float], dict[str, float]]:
    """Every loss before and after; the latter is an average over updates, because samples differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        history: list[dict[str, Tensor]] = [learner.step(batch) for _ in range(UPDATES)]
    names = [key for key in history[0] if key.startswith("loss/") and key != "loss/total"]

    def average(rows: list[dict[str, Tensor]]) -> dict[str, float]:
        return {name.removeprefix("loss/"): float(torch.stack([row[name] for row in rows]).mean()) for name in names}

    return average(history[:1]), average(history[-20:])


@pytest.mark.parametrize("generation", ["dreamer_v1_continue", "dreamer_v2", "dreamer_v3"])
def test_every_loss_approaches_its_lower_bound(generation: str) -> None:
    batch = tiny_batch(2, 5)
    before, after = learn(trainer(generation), batch)
    expected = floors(generation, batch)
    assert after.keys() == expected.keys()
    for name, floor in expected.items():
        assert after[name] > floor - 1e-3, name
        if name not in ("kl", "dynamics", "representation"):  # these start near their lower bound and may rise
            assert after[name] - floor < LEFT * (before[name] - floor), name
    for name in expected.keys() & {"kl", "dynamics", "representation"}:
        assert after[name] < expected[name] + 0.5, name


@pytest.mark.parametrize("objective", ["contrastive", "cosine_contrastive", "barlow_twins"])
@pytest.mark.parametrize("generation", ["dreamer_v1_continue", "dreamer_v2"])
def test_loss_without_a_decoder_approaches_zero(generation: str, objective: str) -> None:
    before, after = learn(trainer(generation, f"objective={objective}"), tiny_batch(2, 5))
    assert 0 <= after[objective] < LEFT * before[objective]
