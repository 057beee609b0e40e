"""TD-MPC learns a small deterministic problem from random data, and plans nearly optimally in it."""

from functools import cache, partial

import pytest
import torch
from torch import Tensor

from dreamset.behaviors.planning.controller import PlanningController
from dreamset.behaviors.planning.optimizers import MPPI
from dreamset.behaviors.planning.planner import Planning
from dreamset.behaviors.planning.scores import TerminalValue
from dreamset.behaviors.rewards import PredictedReward
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.models.heads import SymlogTwoHotHead
from dreamset.models.layers import elu
from dreamset.models.told.critics import QEnsemble, TargetCopy
from dreamset.models.told.networks import LatentDynamics, LatentEncoder
from dreamset.models.told.policy import RunningScale, SquashedGaussianPolicy
from dreamset.models.told.world_model import TOLD
from dreamset.objectives.consistency import Consistency
from dreamset.pipeline.training.optimizers import GlobalNorm
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded

SPEED, STEPS, UPDATES = 0.4, 8, 400
SPEC = DataSpec(
    {"position": ArraySpec((1,), "float32")},
    ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,)),
    {},
    {"position": VectorStatistics((0.0,), (1.0,))},
)


def moved(position: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """A point on a line: the next position and the reward on arrival, 1 at the origin."""
    arrived = (position + SPEED * action).clamp(-2, 2)
    return arrived, 1 - arrived.abs()[..., 0]


def random_windows(generator: torch.Generator, *, size: int = 64, rows: int = 4) -> SequenceBatch:
    position = torch.rand(size, 1, generator=generator) * 4 - 2
    action = torch.rand(size, rows, 1, generator=generator) * 2 - 1
    positions, rewards = [position], [torch.zeros(size)]
    for t in range(1, rows):
        position, reward = moved(position, action[:, t])
        positions.append(position)
        rewards.append(reward)
    number = torch.arange(rows).expand(size, rows)
    never = torch.zeros(size, rows, dtype=torch.bool)
    stacked = torch.stack(positions, dim=1)
    return SequenceBatch({"position": stacked}, action, torch.stack(rewards, 1), never, never, never, {}, number)


@cache
def trained() -> TOLD:
    sizes = {"hidden": 32, "layers": 1, "style": elu()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TOLD(
            SPEC,
            encoder=partial(LatentEncoder, size=16, **sizes),
            dynamics=partial(LatentDynamics, **sizes),
            reward_head=partial(SymlogTwoHotHead, **sizes),
            critics=partial(QEnsemble, members=2, **sizes),
            policy=partial(SquashedGaussianPolicy, **sizes),
            scale=RunningScale(),
            target=partial(TargetCopy, rate=0.05),
            discount=0.8,
        )
        objective = Consistency(model, weight=20.0, horizon=3, rho=0.5)
    adam = partial(torch.optim.Adam, lr=3e-3)
    learner = WorldModelTrainer(model, objective, optimizer=adam, generator=seeded(), clipping=GlobalNorm(20))
    generator = seeded(1)
    for _ in range(UPDATES):
        learner.step(random_windows(generator))
    return model.eval().requires_grad_(False)


def controller(*, pessimism: float = 0.0) -> PlanningController:
    optimizer = MPPI(horizon=3, candidates=48, elites=8, iterations=4)
    planning = Planning(optimizer, PredictedReward(), 0.8, TerminalValue(pessimism), proposals=4)
    return planning.controller(trained(), None)


def test_planning_in_the_learned_model_is_nearly_optimal() -> None:
    """The best policy moves straight to the origin and stays there; doing nothing earns far less."""
    planner, generator = controller(), seeded(2)
    position = torch.linspace(-1.9, 1.9, 8)[:, None]
    best, best_return, total = position.clone(), torch.zeros(8), torch.zeros(8)
    memory = planner.initial(8)
    still = STEPS * moved(position, torch.zeros(8, 1))[1]
    for step in range(STEPS):
        is_first = torch.full((8,), step == 0)
        action, memory = planner.act({"position": position}, is_first, memory, generator)
        position, reward = moved(position, action)
        total += reward
        best, reward = moved(best, (-best / SPEED).clamp(-1, 1))
        best_return += reward
    assert still.mean() < 0.3 * best_return.mean()
    assert total.mean() > 0.93 * best_return.mean()


def test_pessimism_lowers_the_value_where_the_critics_disagree() -> None:
    model = trained()
    features = model.encoder({"position": torch.linspace(-2, 2, 9)[:, None]})
    trajectory = ImaginedTrajectory([], features[None], torch.zeros(0, 9, 1))
    values = model.values(trajectory, torch.zeros(9))
    disagreement = values.std(0, unbiased=False)
    assert (disagreement > 0).all()
    lower = TerminalValue(1.0)(values)
    torch.testing.assert_close(TerminalValue()(values) - lower, disagreement)
    assert lower.tolist() == pytest.approx(values.amin(0).tolist(), abs=1e-5)
