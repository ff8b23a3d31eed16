"""Episodes played from their start to their end by a trained policy, with frozen statistics.

For the evaluations of a run, for scripts/evaluate.py and scripts/diagnose.py, and for the picture of an episode.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Playing:
    """E episodes between two steps; what follows an episode's end is to be ignored."""

    key: jax.Array  # of the draws to come
    obs: jax.Array  # [E, ...], raw
    env_state: Any  # [E, ...]
    carry: Any  # the core's memory before obs [E, ...]
    reset: jax.Array  # [E] bool, true where obs starts an episode
    done: jax.Array  # [E] bool, whether the episode has ended
    terminated: jax.Array  # [E] bool, whether it ended otherwise than by the time limit
    report: dict[str, jax.Array]  # [E] each: episode_return, episode_length, what else the environment tells


def begin(trainer: Any, key: jax.Array, num_episodes: int, env_params: Any = None) -> Playing:
    """E fresh episodes before their first step.

    Args:
        trainer: the Trainer.
        key: typed key of all draws of environments and policy.
        num_episodes: E.
        env_params: of the environment; None: the trainer's.
    """
    env_params = trainer.env_params if env_params is None else env_params
    env = trainer.env
    reset_key, key = jax.random.split(key)
    reset_keys = jax.random.split(reset_key, num_episodes)
    obs, env_state = jax.vmap(env.reset_env, in_axes=(0, None))(reset_keys, env_params)
    # What the environment reports: traced on a single one, for the names only.
    single_state = jax.tree.map(lambda x: x[0], env_state)
    action = jax.eval_shape(env.action_space(env_params).sample, key)
    _, _, _, _, info = jax.eval_shape(env.step_env, key, single_state, action, env_params)
    names = ["episode_return", "episode_length", *(name for name in info if name.startswith("episode_"))]
    false = jnp.zeros(num_episodes, bool)
    return Playing(
        key=key,
        obs=obs,
        env_state=env_state,
        carry=trainer.initial_carry(num_episodes),
        reset=~false,
        done=false,
        terminated=false,
        report={name: jnp.zeros(num_episodes) for name in names},
    )


def step(trainer: Any, state: Any, playing: Playing, deterministic: bool, env_params: Any = None) -> Playing:
    """The episodes one step later; the report of those that have ended stays.

    Args:
        trainer: the Trainer.
        state: the RunnerState of one seed.
        playing: the episodes.
        deterministic: play the mode of the policy instead of drawing from it.
        env_params: as for `begin`.
    """
    env_params = trainer.env_params if env_params is None else env_params
    env, (num_episodes,) = trainer.env, playing.done.shape
    key, action_key, env_key = jax.random.split(playing.key, 3)
    carry, action, _ = trainer.act(state, playing.carry, playing.obs, playing.reset, action_key, deterministic)
    env_keys = jax.random.split(env_key, num_episodes)
    step_env = jax.vmap(env.step_env, in_axes=(0, 0, 0, None))
    obs, env_state, reward, terminated, info = step_env(env_keys, playing.env_state, action, env_params)
    truncated = jax.vmap(env.is_truncated, in_axes=(0, None))(env_state, env_params)
    terminated = terminated.astype(bool)
    report = {name: info[name] for name in playing.report if name in info} | {
        "episode_return": playing.report["episode_return"] + reward,
        "episode_length": playing.report["episode_length"] + 1,
    }
    before, after = (playing.report, playing.terminated), (report, terminated)
    report, terminated = jax.tree.map(lambda old, new: jnp.where(playing.done, old, new), before, after)
    return Playing(
        key=key,
        obs=obs,
        env_state=env_state,
        carry=carry,
        reset=jnp.zeros_like(playing.reset),
        done=playing.done | terminated | truncated,
        terminated=terminated,
        report=report,
    )


def evaluate(
    trainer: Any, state: Any, key: jax.Array, num_episodes: int, deterministic: bool, limit: int | None
) -> dict[str, jax.Array]:
    """Raw return, length and what else the environment reports of fresh episodes, each [E].

    Args:
        trainer, state, deterministic: as for `step`.
        key, num_episodes: as for `begin`.
        limit: steps of the longest episode, where it must be known; None: until all have ended.
    """
    played = repeat_until(
        lambda playing: playing.done.all(),
        lambda playing: step(trainer, state, playing, deterministic),
        begin(trainer, key, num_episodes),
        limit,
    )
    return played.report


def repeat_until(done: Callable, step: Callable, loop: Any, limit: int | None) -> Any:
    """Repeats `step` on `loop` until `done`, or `limit` times.

    Args:
        done: loop -> bool.
        step: loop -> loop. With a limit it goes on where `done` holds, so it must do no harm there.
        limit: number of repetitions; None: until `done`. It is needed where `step` calls out to the host, for JAX
            refuses host calls in a while_loop or a cond under vmap.
    """
    if limit is None:
        return jax.lax.while_loop(lambda loop: ~done(loop), step, loop)
    return jax.lax.scan(lambda loop, _: (step(loop), None), loop, length=limit)[0]
