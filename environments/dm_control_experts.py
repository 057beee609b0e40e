"""Scripted experts for tasks of the DM Control suite: control laws of the state vector, and their policies.

The state is ``info["state"]``: the suite's ``position`` and ``velocity``, concatenated. Returns are stated for an
action repeat of 4.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment

State = NDArray[np.floating]
Law = Callable[[State], Action]

# Swing-up, in metres, radians and seconds. Found by random search over whole episodes, then rounded. The same values
# work for action repeats of 1 to 8.
CATCHING_GAINS = np.array([0.8, 5.2, 0.85, 1.4])  # on cart position, pole angle, cart velocity, angular velocity
CATCHING_COSINE = 0.8
CATCHING_SPEED = 5.0
PENDULUM_SPEED = 7.55  # the speed at the bottom that just carries the pole to the top
PUMPING_FORCE = 2.5  # above the bound of 1, so that it dominates centring while energy is missing
PUMPING_GAIN = 16.0
CENTRING_GAINS = (0.8, 0.8)  # on position and velocity of the cart

# Gait of the cheetah, one column per joint: back thigh, shin and foot, front thigh, shin and foot. Found by CMA-ES from
# random phases, then refined on whole episodes, half of them interrupted by random actions; about 25,000 episodes in
# total.
GAIT_AMPLITUDES = np.array([1.71, 0.42, 1.79, 0.79, 0.42, 0.75])
GAIT_LEADS = np.array([-1.83, -0.33, -0.78, -3.10, 1.75, 0.83])  # radians ahead of the back thigh
GAIT_OFFSETS = np.array([-0.44, 0.04, -0.82, -0.78, 0.09, 0.35])
THIGH_CENTRE = 0.13  # radians
THIGH_FREQUENCY = 10.0  # radians per second; scales speed to the unit of angle


def swing_up(state: State) -> Action:
    """The force on the cart that swings the pole up at the centre of the rail and balances it: about 870 of 1000.

    Far from the top, energy shaping: the cart's acceleration adds the missing energy, and a force towards the centre
    keeps the cart off the ends (Åström and Furuta, "Swinging up a pendulum by energy control", 2000). Near the top,
    linear feedback of all four numbers.

    Args:
        state: [5] cart position, cosine and sine of the pole's angle from upright, cart and angular velocity.
    """
    position, cosine, sine, velocity, turning = state
    if cosine > CATCHING_COSINE and abs(turning) < CATCHING_SPEED:
        force = CATCHING_GAINS @ np.array([position, np.arctan2(sine, cosine), velocity, turning])
    else:
        energy = (turning / PENDULUM_SPEED) ** 2 + (cosine - 1) / 2  # -1 hanging still, 0 enough for the top
        pump = PUMPING_FORCE * np.clip(PUMPING_GAIN * energy * turning * cosine, -1, 1)
        force = pump - CENTRING_GAINS[0] * position - CENTRING_GAINS[1] * velocity
    return _bounded([force])


def reach(state: State) -> Action:
    """The forces that move the point mass to the central target and stop it there: about 890 of 1000.

    Args:
        state: [4] position and velocity.
    """
    return _bounded(-20 * state[:2] - 3 * state[2:])


def gallop(state: State) -> Action:
    """Torques that make the cheetah run, clocked by the swing of its back thigh: about 300 of 1000.

    The thigh's angle and speed define a phase, which completes one cycle per stride; each joint follows a cosine of
    that phase. The gait is therefore a function of the state alone: it starts by itself, continues after interruptions
    and can be imitated from observations.

    Args:
        state: [17] height, pitch and six joint angles; horizontal, vertical and pitching velocity and six joint
            velocities. Joints are in the order of the torques.
    """
    angle, speed = state[2], state[11]
    phase = np.arctan2(speed / THIGH_FREQUENCY, angle - THIGH_CENTRE)
    return _bounded(GAIT_AMPLITUDES * np.cos(phase + GAIT_LEADS) + GAIT_OFFSETS)


def cartpole_swingup(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """A policy that follows ``swing_up``."""
    return _following(swing_up)


def point_mass(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """A policy that follows ``reach``."""
    return _following(reach)


def cheetah_run(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """A policy that follows ``gallop``."""
    return _following(gallop)


def _following(law: Law) -> Policy:
    return lambda _, info: law(info["state"])


def _bounded(action: State | list[float]) -> Action:
    bounded: Action = np.clip(np.asarray(action, np.float32), -1, 1)
    return bounded
