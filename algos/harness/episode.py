"""episode.gif: one episode of the trained agent as a picture, without a GPU or an OpenGL driver."""

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algos.harness.errors import writing

MAX_FRAMES = 200
MAX_BYTES = 2_000_000
FRAME_S = 0.05


def record(trainer: Any, state: Any, key: jax.Array, path: Path) -> float | None:
    """Plays one episode with the mode of the policy and writes it as a GIF that loops.

    Args:
        trainer: the Trainer.
        state: the RunnerState of one seed, without the seed axis.
        key: typed key of the environment's and the policy's draws.
        path: the GIF.

    Returns:
        The episode's return; None, and no file, if the environment has no picture.

    Raises:
        RunError: the GIF cannot be written.
    """
    if not hasattr(trainer.env, "render"):
        return None
    states, episode_return = play(trainer, state, key)
    skip = -(-len(states) // MAX_FRAMES)
    frames = [trainer.env.render(each, trainer.env_params) for each in states[::skip]]
    data = _gif(frames)
    while len(data) > MAX_BYTES and len(frames) > 1:
        frames = frames[:: -(-len(data) // MAX_BYTES)]
        data = _gif(frames)
    with writing(path):
        path.write_bytes(data)
    return episode_return


def play(trainer: Any, state: Any, key: jax.Array) -> tuple[list[Any], float]:
    """Environment states of one episode, from the first to the last, and its undiscounted return."""
    env, params = trainer.env, trainer.env_params

    @jax.jit
    def begin(key):
        return _strong(env.reset_env(key, params))

    @jax.jit
    def step(carry, env_state, obs, reset, key):
        act_key, step_key = jax.random.split(key)
        batch = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)  # [1, ...]
        carry, action, _ = trainer.act(state, carry, batch, reset[None], act_key, True)
        obs, env_state, reward, terminated, _ = env.step_env(step_key, env_state, action[0], params)
        done = terminated | env.is_truncated(env_state, params)
        return *_strong((carry, env_state, obs)), reward, done

    key, reset_key = jax.random.split(key)
    obs, env_state = begin(reset_key)
    carry, reset, done = trainer.initial_carry(1), jnp.array(True), False
    states, episode_return = [jax.device_get(env_state)], 0.0
    while not done:
        key, step_key = jax.random.split(key)
        carry, env_state, obs, reward, done = step(carry, env_state, obs, reset, step_key)
        reset = jnp.array(False)
        states.append(jax.device_get(env_state))
        episode_return += float(reward)
    return states, episode_return


def _strong(tree: Any) -> Any:
    """The leaves without weak types, which would compile the step again for its second call."""

    def strong(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # a typed key is never weak, nor converted
        return x if is_key else jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(strong, tree)


def _gif(frames: list[np.ndarray]) -> bytes:
    import imageio.v3 as iio

    buffer = io.BytesIO()
    # Browsers slow down what is faster than 50 frames a second; 20 is safe everywhere. loop=0: for ever.
    iio.imwrite(buffer, np.stack(frames), extension=".gif", duration=1000 * FRAME_S, loop=0)
    return buffer.getvalue()
