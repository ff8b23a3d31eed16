"""Control: the last n_frames inputs side by side, zeros before the episode's start, and an MLP.

    features_t = [e_t, e_{t-1}, .., e_{t-k+1}]        e_t = E u_t

E makes the carry's width independent of the input's; it has no bias, or an empty frame would not be zero. What
happened more than n_frames - 1 steps ago is lost.

Plain form: what onnoeberhard/memory-traces fcfdacc0 computes (MIT), in tests/golden_modern.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.blocks import FeatureCore, join_window, last_window


class Frames(nn.Module):
    """The features: [T, ..., d] to [T, ..., k d], the newest frame first."""

    n_frames: int
    d: int

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> jax.Array:
        return jnp.zeros((*batch_shape, self.n_frames - 1, self.d))

    def __call__(self, carry: jax.Array, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, jax.Array]:
        """carry: [..., k - 1, d], oldest first; x: [T, ..., d]; keep: [T, ...]."""
        length, older = x.shape[0], self.n_frames - 1
        steps, episodes = join_window(carry, x, keep)
        at = older + jnp.arange(length)[:, None] - jnp.arange(self.n_frames)  # [T, k]
        same = episodes[at] == episodes[older:, None]
        frames = jnp.where(same[..., None], steps[at], 0)  # [T, k, ..., d]
        frames = jnp.moveaxis(frames, 1, -2).reshape(*x.shape[:-1], self.n_frames * self.d)
        return last_window(steps, episodes, length), frames


class FrameStack(FeatureCore):
    """An MLP on the last n_frames inputs."""

    n_layers: int = 2
    """layers of the MLP"""
    d_model: int = 128
    """width of a frame and of the MLP"""
    n_frames: int = 8
    """steps the core sees, the present one included"""

    @nn.nowrap
    def features(self, **flax: Any) -> Frames:
        return Frames(self.n_frames, self.d_model, **flax)


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of onnoeberhard/memory-traces: `Window`, which has no weights. See networks.reference_mixers."""
    d = settings["d_input"]
    return Frames(settings["k"], d), {}, d
