"""Environments of a user's own for workers to step: with spaces of every kind, and with faults."""

import random

import gymnasium
import numpy as np
from gymnasium import spaces

NAN_AT, LIMIT = 3, 5


class Task(gymnasium.Env):
    """Shows `shown` in every step, and takes an action only in its own space.

    Args:
        observation_space, action_space: spaces.
        shown: the observation, or a function of the step and the last action.
        reward: paid in every step, or a function of the step.
    """

    def __init__(self, observation_space, action_space, shown, reward=0.0):
        self.observation_space, self.action_space = observation_space, action_space
        self._shown, self._reward = shown, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps, self._action = 0, None
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, type(action))
        assert isinstance(action, np.ndarray if isinstance(self.action_space, spaces.Box) else np.integer)
        self._steps, self._action = self._steps + 1, action
        reward = self._reward(self._steps) if callable(self._reward) else self._reward
        return self._observation(), reward, False, False, {}

    def _observation(self):
        return self._shown(self._steps, self._action) if callable(self._shown) else self._shown


BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
TWO = spaces.Discrete(2)


def strict(kind: str):
    """Shows what it received in float64; the bounds of "float64" are no numbers of float32."""
    actions = {
        "float64": spaces.Box(np.array([0.1, -np.inf]), np.array([0.3, 1e300]), dtype=np.float64),
        "float16": spaces.Box(-0.1, 100.1, (2,), np.float16),
        "start": spaces.Discrete(3, start=-7),
    }[kind]
    seen = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    return Task(seen, actions, lambda _, action: np.zeros(2) if action is None else np.zeros(2) + action)


def faulty(kind: str):
    """Gives something that is none in step `NAN_AT`."""

    def at(value, good):
        return lambda step, *_: value if step == NAN_AT else good

    grey = spaces.Box(0, 255, (4, 4), np.uint8)
    bright = np.full((4, 4), 7)
    bright[1, 2] = 300
    parts = spaces.Tuple((spaces.Dict(place=spaces.MultiDiscrete([2, 3]), speed=BOX),))
    good = ({"place": np.array([1, 2]), "speed": np.zeros(2)},)
    return {
        "nan": lambda: Task(BOX, TWO, at(np.array([0.0, np.nan]), np.zeros(2))),
        "bytes": lambda: Task(grey, TWO, at(bright, np.zeros((4, 4), np.uint8))),
        "part": lambda: Task(parts, TWO, at((good[0] | {"place": np.array([2, 0])},), good)),
        "reward": lambda: Task(BOX, TWO, np.zeros(2), at(-np.inf, 0.0)),
    }[kind]()


def limited():
    """A time limit below another wrapper, on an environment that states none; rewards are arrays of one."""
    env = Task(BOX, TWO, np.zeros(2), np.array([2.5]))
    return gymnasium.wrappers.TransformReward(gymnasium.wrappers.TimeLimit(env, LIMIT), lambda reward: reward)


def global_draws():
    """Shows and pays numbers of the generators that every module of a process shares."""

    def draw(*_):
        return np.array([np.random.uniform(), random.random()])  # noqa: NPY002

    return Task(spaces.Box(0.0, 1.0, (2,), np.float64), TWO, draw, lambda _: np.random.normal())  # noqa: NPY002


class Drawn(Task):
    """Its frames are brighter by 10 in every step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode=None):
        super().__init__(BOX, TWO, np.zeros(2))
        self.render_mode = render_mode

    def render(self):
        if self.render_mode != "rgb_array":
            raise RuntimeError("nothing to draw on")
        return np.full((6, 9, 3), 10 * self._steps, np.uint8)


def drawn(**kwargs):
    return Drawn(**kwargs)


def never_drawn():
    return Drawn()


class Blind(Drawn):
    """Finds out that it cannot draw when it is asked to."""

    def render(self):
        raise OSError("no display,\nand no hope of one")
