"""Small environments for workers to step. Workers import this file: it must not import JAX."""

import os
import signal
import sys
import time
from typing import Any, NamedTuple

import gymnasium
import numpy as np

LIMIT = 6
MASK = np.array([1, 0, 1, 0], bool)  # of CartPole: its positions


class Counter(gymnasium.Env):
    """Shows [steps, steps odd, draws from the seed, JAX imported] and pays the action plus the draws.

    terminates: whether the episode of `LIMIT` steps ends in a terminal state and not by a time limit.
    """

    def __init__(self, continuous: bool = False, terminates: bool = False, draws: bool = True):
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (4,), np.float64)
        box = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = box if continuous else gymnasium.spaces.Discrete(3)
        self._terminates, self._draws = terminates, draws

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        self._draw = float(self.np_random.uniform()) if self._draws else 0.0
        return self._observation(), {}

    def step(self, action):
        self._steps += 1
        over = self._steps >= LIMIT
        reward = float(np.ravel(action)[0]) + self._draw
        return self._observation(), reward, over and self._terminates, over and not self._terminates, {}

    def _observation(self):
        return np.array([self._steps, self._steps % 2, self._draw, "jax" in sys.modules], np.float64)


def counter():
    return Counter()


def undrawn(continuous: bool = False):
    return Counter(continuous, draws=False)


def undrawn_continuous():
    return undrawn(continuous=True)


def terminating():
    return Counter(terminates=True)


class Image(Counter):
    """A grey image that gets brighter, [8, 8, 1]."""

    def __init__(self):
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 1), np.uint8)

    def _observation(self):
        return np.full((8, 8, 1), 40 * self._steps, np.uint8)


def image():
    return Image()


class Slow(Counter):
    """Each step takes a tenth of a second."""

    def step(self, action):
        time.sleep(0.1)
        return super().step(action)


def slow():
    return Slow()


class Faulty(Counter):
    """Fails in its step number `at`, counted over episodes."""

    def __init__(self, how: str, at: int):
        super().__init__()
        self._how, self._left = how, at

    def step(self, action):
        self._left -= 1
        if self._left == 0:
            if self._how == "raise":
                raise EOFError("the ball is gone")
            if self._how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._how == "hang":
                time.sleep(3600)
        return super().step(action)


def raises():
    return Faulty("raise", 9)


def raises_late():
    return Faulty("raise", 100)


def dies():
    return Faulty("die", 9)


def hangs():
    return Faulty("hang", 9)


def cannot_be_made():
    raise OSError("no such maze\nin the second line")


class VelocitiesHidden(gymnasium.ObservationWrapper):
    """CartPole without its velocities: [position, angle]."""

    def __init__(self, env):
        super().__init__(env)
        whole = env.observation_space
        self.observation_space = gymnasium.spaces.Box(whole.low[MASK], whole.high[MASK], dtype=np.float32)

    def observation(self, observation):
        return observation[MASK]


gymnasium.register(
    "CartPoleP-v1", entry_point=lambda: VelocitiesHidden(gymnasium.make("CartPole-v1")), max_episode_steps=500
)


# dm_env's interface, without the package.


class TimeStep(NamedTuple):
    is_last: bool
    reward: float | None
    discount: float | None
    observation: Any

    def last(self) -> bool:
        return self.is_last


class Array(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any


class DiscreteArray(NamedTuple):
    num_values: int
    shape: tuple[int, ...] = ()
    dtype: Any = np.int32


class DmCounter:
    """Ends after `LIMIT` steps, with discount 0 if the seed is odd; shows {"steps": [1], "seed": [2]}."""

    def __init__(self, seed: int = 0):
        self._seed = seed

    def observation_spec(self):
        return {"steps": Array((1,), np.float64), "seed": Array((2,), np.float64)}

    def action_spec(self):
        return DiscreteArray(3)

    def reset(self):
        self._steps = 0
        return TimeStep(False, None, None, self._observation())

    def step(self, action):
        self._steps += 1
        last = self._steps == LIMIT
        return TimeStep(last, float(action), 0.0 if last and self._seed % 2 else 1.0, self._observation())

    def _observation(self):
        return {"steps": np.array([self._steps]), "seed": np.array([self._seed % 2, self._seed % 1000])}


def dm_counter(seed: int = 0):
    return DmCounter(seed)
