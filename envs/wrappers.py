"""Wrappers of single environments."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces


class Wrapper(environment.Environment):
    """An environment that shows another's states in another way; what it does not define is the other's."""

    def __init__(self, env):
        super().__init__()
        self._env = env

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "_env":  # not there yet while an instance is being copied
            raise AttributeError(attribute)
        return getattr(self._env, attribute)

    @property
    def name(self) -> str:
        return self._env.name

    @property
    def default_params(self):
        return self._env.default_params

    @property
    def num_actions(self) -> int:
        return self._env.num_actions

    def action_space(self, params=None):
        return self._env.action_space(params)

    def is_truncated(self, state, params) -> jax.Array:
        return self._env.is_truncated(state, params)

    def is_terminated(self, state, params) -> jax.Array:
        return self._env.is_terminated(state, params)


def one_hot(env, params):
    """The environment with observations that are names, not amounts, as one-hot floats; others as they are."""
    if isinstance(env.observation_space(params), spaces.Discrete):
        return OneHot(env, (int(env.observation_space(params).n),))
    categories = getattr(env, "observation_categories", None)
    return env if categories is None else OneHot(env, tuple(categories))


class OneHot(Wrapper):
    """Observations of whole numbers as one-hot floats.

    Args:
        env: a gymnax Environment whose observations are one number, or [..., C] numbers of C kinds.
        categories: how many values each of the kinds has.
    """

    def __init__(self, env, categories: tuple[int, ...]):
        super().__init__(env)
        self._categories = categories

    def observation_space(self, params=None) -> spaces.Box:
        inner = self._env.observation_space(params)
        leading = () if isinstance(inner, spaces.Discrete) else inner.shape[:-1]
        return spaces.Box(0.0, 1.0, (*leading, sum(self._categories)), jnp.float32)

    def reset_env(self, key: jax.Array, params):
        obs, state = self._env.reset_env(key, params)
        return self.first_observation(obs, params), state

    def first_observation(self, obs: jax.Array, params) -> jax.Array:
        """What an agent sees of the wrapped environment's `obs`, at an episode's start as in every other step."""
        del params
        kinds = jnp.asarray(obs)[..., None] if len(self._categories) == 1 and jnp.ndim(obs) == 0 else obs
        return jnp.concatenate(
            [jax.nn.one_hot(kinds[..., i], count) for i, count in enumerate(self._categories)], axis=-1
        )

    def step_env(self, key: jax.Array, state, action: jax.Array, params):
        obs, state, reward, terminated, info = self._env.step_env(key, state, action, params)
        return self.first_observation(obs, params), state, reward, terminated, info


class PreviousActionReward(Wrapper):
    """Appends the action just taken and its raw reward to the observation, which is flattened.

    A discrete action is one-hot. A continuous one is clipped to the action space: what the environment
    received, not what the policy drew. At an episode's start both are zero. The state is that of the wrapped
    environment.

    Args:
        env: a gymnax Environment with array observations.
    """

    def observation_space(self, params=None) -> spaces.Box:
        inner = self._env.observation_space(params)
        if isinstance(inner, spaces.Discrete):
            inner = spaces.Box(0.0, inner.n - 1.0, ())
        action = self._env.action_space(params)
        if isinstance(action, spaces.Discrete):
            action = spaces.Box(0.0, 1.0, (action.n,))
        flat = functools.partial(_flat_bound, boxes=(inner, action))
        low, high = flat("low"), flat("high")
        return spaces.Box(np.append(low, -np.inf), np.append(high, np.inf), (low.size + 1,), jnp.float32)

    def reset_env(self, key: jax.Array, params):
        obs, state = self._env.reset_env(key, params)
        return self.first_observation(obs, params), state

    def first_observation(self, obs: jax.Array, params) -> jax.Array:
        """What an agent sees of the wrapped environment's `obs` where it begins an episode."""
        space = self._env.action_space(params)
        action = jnp.zeros(space.n if isinstance(space, spaces.Discrete) else space.shape)
        return _join(obs, action, 0.0)

    def step_env(self, key: jax.Array, state, action: jax.Array, params):
        obs, state, reward, terminated, info = self._env.step_env(key, state, action, params)
        space = self._env.action_space(params)
        if isinstance(space, spaces.Discrete):
            taken = jax.nn.one_hot(action, space.n)
        else:
            taken = jnp.clip(action, space.low, space.high)
        return _join(obs, taken, reward), state, reward, terminated, info


def _join(obs: jax.Array, action: jax.Array, reward: jax.Array | float) -> jax.Array:
    parts = (jnp.ravel(jnp.asarray(part, jnp.float32)) for part in (obs, action, reward))
    return jnp.concatenate(list(parts))


def _flat_bound(bound: str, boxes) -> np.ndarray:
    """`low` or `high` of several boxes, flattened and joined."""
    return np.concatenate([np.broadcast_to(getattr(box, bound), box.shape).ravel() for box in boxes])
