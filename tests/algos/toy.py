"""Tiny environments with known answers, for tests of the trainers."""

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

    reward: "constant" (a float), or "action" (the first action).
    """

    def __init__(self, reward="action", obs_size=3, action_size=1):
        self.reward, self.obs_size, self.action_size = reward, obs_size, action_size

    @property
    def default_params(self):
        return Params()

    def reset_env(self, key, params):
        noise = jax.random.normal(key, (self.obs_size,))
        return noise, State(time=jnp.int32(0), noise=noise)

    def step_env(self, key, state, action, params):
        noise = next_observation(state.noise)
        reward = action.reshape(-1)[0] if self.reward == "action" else jnp.float32(self.reward)
        terminated = jax.random.bernoulli(key, params.termination)
        return noise, State(time=state.time + 1, noise=noise), reward, terminated, {}

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (self.action_size,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (self.obs_size,))


def use_toy(monkeypatch, reward="action", max_steps=10, termination=0.0, **sizes):
    """Make every envs.make return a Toy."""
    params = Params(max_steps_in_episode=max_steps, termination=termination)
    monkeypatch.setattr(envs, "make", lambda env_id, **options: (Toy(reward, **sizes), params))
