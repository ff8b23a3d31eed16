"""The batched form of environments of the host, with the interface of envs.VectorEnv."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.vector import count_step, where_done


@struct.dataclass
class HostVectorState:
    """State of B environments.

    Attributes:
        env: HostState of the environments, leaves [B, ...].
        episode_return: undiscounted sum of raw rewards of the running episodes, float32 [B].
        episode_length: steps taken in the running episodes, int32 [B].
    """

    env: Any
    episode_return: jax.Array
    episode_length: jax.Array


class HostVectorEnv:
    """Steps `num_envs` environments in worker processes, which begin the next episode themselves.

    Args:
        env: a HostEnvironment, or one in a PreviousActionReward.
        num_envs: B.

    Raises:
        ValueError: `num_envs` is below 1.
    """

    def __init__(self, env, num_envs: int):
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: must be at least 1")
        self.env, self.num_envs = env, num_envs

    def reset(self, key: jax.Array, params) -> tuple[Any, HostVectorState]:
        """Starts every environment from a seed of its own: (observation [B, ...], state)."""
        reset_env = jax.vmap(self.env.reset_env, in_axes=(0, None))
        obs, env_state = reset_env(jax.random.split(key, self.num_envs), params.replace(restarts=True))
        zeros = jnp.zeros(self.num_envs, jnp.float32)
        return obs, HostVectorState(env_state, zeros, zeros.astype(jnp.int32))

    def refresh(self, key: jax.Array, state: HostVectorState, params) -> HostVectorState:
        """Nothing to be done: there is no pool of start states to be drawn."""
        return state

    def step(self, key: jax.Array, state: HostVectorState, action: jax.Array, params):
        """Takes one step in every environment; as VectorEnv.step, with starts made by the workers."""
        params = params.replace(restarts=True)
        keys = jax.random.split(key, self.num_envs)
        step_env = jax.vmap(self.env.step_env, in_axes=(0, 0, 0, None))
        final_obs, env_state, reward, terminated, env_info = step_env(keys, state.env, action, params)
        truncated = env_state.truncated  # [B]
        done = terminated | truncated  # [B]
        running, episode = count_step(state, reward, done)
        start = jax.vmap(self.env.first_observation, in_axes=(0, None))(env_state.obs, params)
        next_state = state.replace(env=env_state, **running)
        info = {**env_info, "final_observation": final_obs, **episode}
        return where_done(done, start, final_obs), next_state, reward, terminated, truncated, info
