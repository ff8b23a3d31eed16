"""MultiarmedBandit: which of many arms wins most often?"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from envs.popgym.task import Layout, TimedParams, TimedTask, encode


@struct.dataclass
class BanditState(environment.EnvState):
    """time: steps taken, int32; bandits: probability of winning of every arm, float32 [n]."""

    time: jax.Array
    bandits: jax.Array


class MultiarmedBandit(TimedTask):
    """Pulls one of n arms a step, T times: 1 / T and the observation 1 if it wins, -1 / T and 0 if not.

    The arms' chances are drawn evenly from 0 to 1 at the episode's start. The time limit truncates.
    """

    ARMS = {"Easy": 10, "Medium": 20, "Hard": 30}
    PULLS = {"Easy": 200, "Medium": 400, "Hard": 600}

    def __init__(self, level: str = "Easy"):
        arms = self.ARMS[level]
        super().__init__(level, 2, arms, self.PULLS[level], {"bandits": (arms,)})

    def sample_layout(self, key: jax.Array, params: TimedParams) -> Layout:
        """`bandits` float32 [n]: chances of winning."""
        return {"bandits": jax.random.uniform(key, (self.num_actions,))}

    def start(self, layout: Layout) -> tuple[jax.Array, BanditState]:
        bandits = jnp.asarray(layout["bandits"], jnp.float32)
        return encode((jnp.int32(0), 2)), BanditState(time=jnp.int32(0), bandits=bandits)

    def step_env(self, key: jax.Array, state: BanditState, action: jax.Array | int, params: TimedParams):
        return self.step_with(jax.random.uniform(key), state, action, params)

    def step_with(self, noise: jax.Array, state: BanditState, action: jax.Array | int, params: TimedParams):
        """`step_env` with its only random number given.

        Args:
            noise: from 0 to below 1, float32; the arm wins if it is below its chance.
        """
        chance = jnp.sum(jnp.where(np.arange(self.num_actions) == action, state.bandits, 0.0))
        won = jnp.asarray(noise, jnp.float32) < chance
        reward = jnp.where(won, np.float32(1 / self.steps), np.float32(-1 / self.steps))
        state = state.replace(time=state.time + 1)
        terminated = self._terminated(jnp.bool_(False), state, params)
        return encode((won.astype(jnp.int32), 2)), state, reward, terminated, {}
