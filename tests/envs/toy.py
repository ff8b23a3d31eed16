"""A tiny environment with known answers."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class EnvParams(environment.EnvParams):
    max_steps_in_episode: int = 10


@struct.dataclass
class EnvState(environment.EnvState):
    start: jax.Array
    length: jax.Array
    time: jax.Array


class Toy(environment.Environment):
    """Reward 7 a step. Observation: the number drawn at the start, the time, and noise drawn in the step.

    Args:
        low, high: an episode terminates after a number of steps drawn from low..high-1.
    """

    def __init__(self, low: int = 1000, high: int = 1001):
        super().__init__()
        self.low, self.high = low, high
        self.reset_calls = 0

    @property
    def default_params(self) -> EnvParams:
        return EnvParams()

    def action_space(self, params=None) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (1,))

    def observation_space(self, params=None) -> spaces.Box:
        return spaces.Box(-jnp.inf, jnp.inf, (3,))

    def reset_env(self, key, params):
        self.reset_calls += 1
        key_start, key_length = jax.random.split(key)
        length = jax.random.randint(key_length, (), self.low, self.high)
        state = EnvState(start=jax.random.uniform(key_start), length=length, time=0)
        return jnp.stack([state.start, 0.0, 0.0]), state

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        obs = jnp.stack([state.start, jnp.float32(state.time), jax.random.uniform(key)])
        return obs, state, jnp.float32(7.0), state.time >= state.length, {"reported": state.start}
