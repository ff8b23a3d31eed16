"""The batched environment that trainers step.

gymnax's and Brax's auto-resets either run the reset in every step (costly where the reset runs physics) or
return to one cached first state. Here start states are drawn in one batched reset a rollout; a step only
picks the next one.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.sharding import on_every_device, over_devices


@struct.dataclass
class VectorState:
    """State of B environments with a pool of P start states.

    Attributes:
        env: states of the environments, leaves [B, ...].
        episode_return: undiscounted sum of raw rewards of the running episodes, float32 [B].
        episode_length: steps taken in the running episodes, int32 [B].
        pool: (observations, states) of fresh starts, leaves [P, ...].
        used: number of starts taken from the pool since it was drawn, int32 scalar.
    """

    env: Any
    episode_return: jax.Array
    episode_length: jax.Array
    pool: Any
    used: jax.Array


class VectorEnv:
    """Steps `num_envs` copies of a gymnax environment and restarts those whose episode ended.

    Args:
        env: a gymnax 1.0 Environment.
        num_envs: B, the number of copies.
        pool_size: P, start states drawn by `reset` and by each `refresh`. No start is used twice as long as
            at most `pool_size` episodes end between two refreshes; then the pool is used from its beginning.

    Raises:
        ValueError: `num_envs` or `pool_size` is below 1.
    """

    def __init__(self, env, num_envs: int, pool_size: int):
        for field, value in (("num_envs", num_envs), ("pool_size", pool_size)):
            if value < 1:
                raise ValueError(f"{field}={value!r}: must be at least 1")
        self.env, self.num_envs, self.pool_size = env, num_envs, pool_size

    def reset(self, key: jax.Array, params) -> tuple[Any, VectorState]:
        """Starts every environment in a state of its own and fills the pool.

        Returns:
            (observation [B, ...], state).
        """
        # One batch for both: the physics reset is traced once.
        starts = self._fresh(key, self.num_envs + self.pool_size, params)
        obs, env_state = jax.tree.map(lambda x: x[: self.num_envs], starts)
        state = VectorState(
            env=env_state,
            episode_return=jnp.zeros(self.num_envs, jnp.float32),
            episode_length=jnp.zeros(self.num_envs, jnp.int32),
            pool=jax.tree.map(lambda x: x[self.num_envs :], starts),
            used=jnp.int32(0),
        )
        return obs, state

    def refresh(self, key: jax.Array, state: VectorState, params) -> VectorState:
        """Draws `pool_size` new start states in one batched reset; call it once a rollout."""
        return state.replace(pool=self._fresh(key, self.pool_size, params), used=jnp.int32(0))

    def step(self, key: jax.Array, state: VectorState, action: jax.Array, params):
        """Takes one step in every environment; those that are done restart from the pool.

        Args:
            action: [B, ...].

        Returns:
            (obs [B, ...], state, reward float32 [B], terminated bool [B], truncated bool [B], info). Where an
            episode ends, `obs` is the first one of the next episode and `info["final_observation"]` the last
            one of this; elsewhere the two are equal. `truncated` is false where `terminated` is true.
            `info["episode_return"]` and `info["episode_length"]` include this step and belong to the episode
            that the step was taken in. What the environment itself reports is in `info` too.
        """
        keys = jax.random.split(key, self.num_envs)
        step_env = jax.vmap(self.env.step_env, in_axes=(0, 0, 0, None))
        final_obs, env_state, reward, terminated, env_info = step_env(keys, state.env, action, params)
        truncated = jax.vmap(self.env.is_truncated, in_axes=(0, None))(env_state, params)

        reward = reward.astype(jnp.float32)  # [B]
        terminated = terminated.astype(bool)  # [B]
        truncated = truncated.astype(bool) & ~terminated  # [B]
        done = terminated | truncated  # [B]
        running, episode = count_step(state, reward, done)

        # The k-th environment that ends takes the k-th unused start.
        slot = (state.used + jnp.cumsum(done, dtype=jnp.int32) - 1) % self.pool_size  # [B]
        starts = jax.tree.map(lambda x: jnp.take(x, slot, axis=0, mode="clip"), state.pool)  # leaves [B, ...]
        obs, next_env_state = jax.tree.map(functools.partial(where_done, done), starts, (final_obs, env_state))
        next_state = state.replace(
            env=next_env_state,
            **running,
            used=state.used + jnp.sum(done, dtype=jnp.int32),
        )
        info = {**env_info, "final_observation": final_obs, **episode}
        return obs, next_state, reward, terminated, truncated, info

    def _fresh(self, key: jax.Array, count: int, params):
        """`count` independent starts: (observations, states), leaves [count, ...]."""
        starts = jax.vmap(self.env.reset_env, in_axes=(0, None))(jax.random.split(key, count), params)
        starts = jax.tree.map(_strong_type, starts)
        # Several devices share in making them, and each then has them all, for any environment may take any.
        return on_every_device(over_devices(starts, axis=0))


def _strong_type(x: jax.Array) -> jax.Array:
    """Gives a leaf a definite dtype.

    A Python constant in a reset leaves a weak one, which a step changes: a function jitted for the first
    state would be compiled again for the second.
    """
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.astype(x.dtype)


def count_step(state: Any, reward: jax.Array, done: jax.Array) -> tuple[dict, dict]:
    """Return and length, by name, of the episodes that run on [B], and of those the step was taken in [B]."""
    episode = {"episode_return": state.episode_return + reward, "episode_length": state.episode_length + 1}
    return {name: jnp.where(done, jnp.zeros_like(x), x) for name, x in episode.items()}, episode


def where_done(done: jax.Array, start: jax.Array, stepped: jax.Array) -> jax.Array:
    """Selects `start` where done [B]; both [B, ...]. The dtype is that of `start`."""
    done = done.reshape(done.shape + (1,) * (start.ndim - 1))
    if stepped.dtype != start.dtype:
        stepped = stepped.astype(start.dtype)
    return jnp.where(done, start, stepped)
