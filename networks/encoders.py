"""Encoders: observation [T, B, ...] to a flat vector [T, B, d], before the memory core."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import orthogonal


class MLPEncoder(nn.Module):
    """Dense + relu for every width; no width leaves the flattened observation as it is."""

    widths: Sequence[int] = ()

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """obs: [T, B, ...]. Returns [T, B, widths[-1]], or [T, B, size of an observation]."""
        x = obs.reshape(*obs.shape[:2], -1).astype(jnp.float32)
        for width in self.widths:
            x = nn.relu(nn.Dense(width, kernel_init=orthogonal(np.sqrt(2)))(x))
        return x


class ConvEncoder(nn.Module):
    """Convolutions without padding, each followed by relu; bytes are scaled to [0, 1]."""

    channels: Sequence[int] = (32, 64, 64)
    kernels: Sequence[int] = (8, 4, 3)
    strides: Sequence[int] = (4, 2, 1)

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """obs: [T, B, height, width, channels], uint8 or float. Returns [T, B, d]."""
        x = obs.astype(jnp.float32) / 255.0 if obs.dtype == jnp.uint8 else obs
        x = x.reshape(-1, *obs.shape[2:])  # flax's convolution takes one batch axis
        for channels, kernel, stride in zip(self.channels, self.kernels, self.strides, strict=True):
            x = nn.Conv(
                channels,
                (kernel, kernel),
                (stride, stride),
                padding="VALID",
                kernel_init=orthogonal(np.sqrt(2)),
            )(x)
            x = nn.relu(x)
        return x.reshape(*obs.shape[:2], -1)
