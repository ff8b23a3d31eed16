"""Tiny environments with known answers, for tests of the trainers."""

from contextlib import contextmanager
from unittest import mock

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

import envs


@struct.dataclass
class State:
    time: jax.Array
    noise: jax.Array


@struct.dataclass
class Params:
    max_steps_in_episode: int = 10
    termination: float = 0.0  # probability of an end in every step


def next_observation(obs):
    """The observation after obs, also where the episode ends there."""
    return jnp.sin(5 * obs + 1)


class Toy(environment.Environment):
    """A noisy first observation and a chaotic map from each to the next, a time limit, random terminations.

    reward: "action" (the first action), or a constant.  num_actions: 0 for continuous actions [1].
    `episode_success` is reported as 1 in the step that reaches the time limit and as 0.25 in every other.
    """

    def __init__(self, reward="action", obs_size=3, num_actions=0):
        self.reward, self.obs_size, self.discrete_actions = reward, obs_size, num_actions

    @property
    def default_params(self):
        return Params()

    def reset_env(self, key, params):
        noise = jax.random.normal(key, (self.obs_size,))
        return noise, State(time=jnp.int32(0), noise=noise)

    def step_env(self, key, state, action, params):
        noise, time = next_observation(state.noise), state.time + 1
        first_action = action.reshape(-1)[0].astype(jnp.float32)
        reward = first_action if self.reward == "action" else jnp.float32(self.reward)
        terminated = jax.random.bernoulli(key, params.termination)
        success = jnp.where(time == params.max_steps_in_episode, 1.0, 0.25)
        return noise, State(time=time, noise=noise), reward, terminated, {"episode_success": success}

    def action_space(self, params):
        if self.discrete_actions:
            return spaces.Discrete(self.discrete_actions)
        return spaces.Box(-1.0, 1.0, (1,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (self.obs_size,))


class ImageToy(Toy):
    """A Toy whose observations are images of noise [height, width, channels], of bytes or of floats in [0, 1]."""

    def __init__(self, shape, dtype=jnp.uint8, num_actions=3):
        super().__init__(num_actions=num_actions)
        self.shape, self.dtype = shape, dtype

    def see(self, state):
        key = jax.random.key(jax.lax.bitcast_convert_type(state.noise[0], jnp.uint32))
        if self.dtype == jnp.uint8:
            return jax.random.bits(key, self.shape, jnp.uint8)
        return jax.random.uniform(key, self.shape, self.dtype)

    def reset_env(self, key, params):
        _, state = super().reset_env(key, params)
        return self.see(state), state

    def step_env(self, key, state, action, params):
        _, state, *rest = super().step_env(key, state, action, params)
        return self.see(state), state, *rest

    def observation_space(self, params):
        return spaces.Box(0, 255 if self.dtype == jnp.uint8 else 1, self.shape, self.dtype)


@contextmanager
def environment_is(env, **params):
    """Every envs.make returns env, whatever it is asked for; params: fields of Params."""
    with mock.patch.object(envs, "make", lambda env_id, **options: (env, Params(**params))):
        yield
