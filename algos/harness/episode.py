"""episode.gif: one episode of the trained agent as a picture, without a GPU or an OpenGL driver."""

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algos.harness import evaluation
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

    @jax.jit
    def begin(key):
        return _strong(evaluation.begin(trainer, key, num_episodes=1))

    @jax.jit
    def step(playing):
        return _strong(evaluation.step(trainer, state, playing, deterministic=True))

    def env_state(playing):
        return jax.tree.map(lambda x: x[0], jax.device_get(playing.env_state))

    playing = begin(key)
    states = [env_state(playing)]
    while not playing.done.all():
        playing = step(playing)
        states.append(env_state(playing))
    return states, float(playing.report["episode_return"][0])


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
