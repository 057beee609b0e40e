"""Scripted experts of tasks of the DM Control suite: laws of the state vector, and the policies that follow them.

A state is what ``info["state"]`` holds, the suite's ``position`` and ``velocity`` joined. Returns are
stated for an action repeat of 4.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment

State = NDArray[np.floating]
Law = Callable[[State], Action]

# Swing-up, in metres, radians and seconds. Found by random search over whole episodes, then rounded; they need no
# finer tuning, and serve action repeats of 1 to 8.
CATCHING_GAINS = np.array([0.8, 5.2, 0.85, 1.4])  # on cart position, pole angle, cart velocity, angular velocity
CATCHING_COSINE = 0.8
CATCHING_SPEED = 5.0
PENDULUM_SPEED = 7.55  # at the bottom, that carries the pole just to the top
PUMPING_FORCE = 2.5  # beyond the bound of 1, so that centring yields to it while energy is missing
PUMPING_GAIN = 16.0
CENTRING_GAINS = (0.8, 0.8)  # on position and velocity of the cart

# Gait of the cheetah, a column for each joint: back thigh, shin and foot, front thigh, shin and foot. Found by a
# covariance-matrix-adapting evolution strategy from random phases, then refined on whole episodes of which half were
# interrupted by random actions; some 25,000 episodes in all.
GAIT_AMPLITUDES = np.array([1.71, 0.42, 1.79, 0.79, 0.42, 0.75])
GAIT_LEADS = np.array([-1.83, -0.33, -0.78, -3.10, 1.75, 0.83])  # radians ahead of the back thigh
GAIT_OFFSETS = np.array([-0.44, 0.04, -0.82, -0.78, 0.09, 0.35])
THIGH_CENTRE = 0.13  # radians
THIGH_FREQUENCY = 10.0  # radians per second; makes speed and angle comparable


def swing_up(state: State) -> Action:
    """The force on the cart that swings the pole up in the middle of the rail and holds it: about 870 of 1000.

    Far from the top the cart's acceleration feeds the pole the energy that it lacks there, in the direction in which
    the pole swings; a pull to the middle keeps the cart off the ends (energy shaping: Åström and Furuta, "Swinging up a
    pendulum by energy control", 2000). Near the top all four numbers are fed back linearly.

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
    """The forces that bring the point mass to the target in the middle and stop it there: about 890 of 1000.

    Args:
        state: [4] place and velocity.
    """
    return _bounded(-20 * state[:2] - 3 * state[2:])


def gallop(state: State) -> Action:
    """Torques of the cheetah that run with the swing of its own back thigh as their clock: about 300 of 1000.

    The thigh's angle and speed are a point that circles once a stride; each joint is driven by a cosine of the angle of
    that point. The gait is thus a function of the state alone: it starts by itself, goes on after any interruption, and
    can be imitated from observations.

    Args:
        state: [17] height, pitch and six joint angles; horizontal, vertical and pitching velocity and six joint
            velocities. Joints are in the order of the torques.
    """
    angle, speed = state[2], state[11]
    phase = np.arctan2(speed / THIGH_FREQUENCY, angle - THIGH_CENTRE)
    return _bounded(GAIT_AMPLITUDES * np.cos(phase + GAIT_LEADS) + GAIT_OFFSETS)


def cartpole_swingup(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """``swing_up`` undisturbed."""
    return _following(swing_up)


def point_mass(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """``reach`` undisturbed."""
    return _following(reach)


def cheetah_run(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """``gallop`` undisturbed."""
    return _following(gallop)


def _following(law: Law) -> Policy:
    return lambda _, info: law(info["state"])


def _bounded(action: State | list[float]) -> Action:
    bounded: Action = np.clip(np.asarray(action, np.float32), -1, 1)
    return bounded
