"""episode.gif: one episode of the trained agent as a picture, without a GPU or an OpenGL driver."""

import io
from collections.abc import Callable, Iterator
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


def record(trainer: Any, state: Any, key: jax.Array, path: Path) -> str:
    """Plays one episode with the mode of the policy and writes it as a GIF that loops.

    Args:
        trainer: the Trainer.
        state: the RunnerState of one seed, without the seed axis.
        key: typed key of the environment's and the policy's draws.
        path: the GIF.

    Returns:
        Why there is no GIF; empty where there is one.

    Raises:
        RunError: the GIF cannot be written.
    """
    env = trainer.env
    if hasattr(env, "render"):
        frames = thinned(play(trainer, state, key), lambda each: env.render(each, trainer.env_params))
    elif hasattr(env, "draw"):
        # An environment on the host draws where it is now, and only where it was made to draw.
        drawing = trainer._replace(env_params=trainer.env_params.replace(drawn=True))
        frames = thinned(play(drawing, state, key), env.draw)
    else:
        return env.no_picture if trainer.lives_on_host else ""
    data = _gif(frames)
    while len(data) > MAX_BYTES and len(frames) > 1:
        frames = frames[:: -(-len(data) // MAX_BYTES)]
        data = _gif(frames)
    with writing(path):
        path.write_bytes(data)
    return ""


def play(trainer: Any, state: Any, key: jax.Array) -> Iterator[Any]:
    """The environment's states of one episode, from the first to the last, one as soon as it is reached."""

    @jax.jit
    def begin(key):
        return _strong(evaluation.begin(trainer, key, num_episodes=1))

    @jax.jit
    def step(playing):
        return _strong(evaluation.step(trainer, state, playing, deterministic=True))

    playing = begin(key)
    while True:
        yield jax.tree.map(lambda x: x[0], jax.device_get(playing.env_state))
        if playing.done.all():
            return
        playing = step(playing)


def thinned(states: Iterator[Any], draw: Callable[[Any], np.ndarray]) -> list[np.ndarray]:
    """Frames of at most MAX_FRAMES states, evenly spaced, of an episode whose length is not known beforehand."""
    frames, stride = [], 1
    for count, state in enumerate(states):
        if count % stride == 0:
            frames.append(draw(state))
        if len(frames) > MAX_FRAMES:
            frames, stride = frames[::2], 2 * stride
    return frames


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
