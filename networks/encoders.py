"""Encoders: observation [T, B, ...] to a flat vector [T, B, d], before the memory core."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import Dense, orthogonal


class MLPEncoder(nn.Module):
    """Dense + relu for every width; no width leaves the flattened observation as it is.

    With `layer_norm`, what every Dense gives is normalised before the relu.
    """

    widths: Sequence[int] = ()
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """obs: [T, B, ...]. Returns [T, B, widths[-1]], or [T, B, size of an observation]."""
        x = obs.reshape(*obs.shape[:2], -1).astype(jnp.float32)
        for width in self.widths:
            x = Dense(width, kernel_init=orthogonal(np.sqrt(2)))(x)
            x = nn.relu(nn.LayerNorm()(x) if self.layer_norm else x)
        return x


def patch_convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution without padding as one matrix product of patches with the kernel.

    x: [N, height, width, C]; kernel: [k, k, C, D]. Returns [N, h, w, D].
    """
    height, width = ((side - size) // stride for side, size in zip(x.shape[1:], kernel.shape[:2], strict=False))
    patches = [
        x[:, i : i + height * stride + 1 : stride, j : j + width * stride + 1 : stride]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """XLA's convolution with the gradient of `patch_convolution`, which is the same.

    In a loop, such as an update's over minibatches, XLA's CPU backend has no fast kernels for the gradient of a
    convolution; it takes some twenty times as long as the matrix products.
    """
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolution_forward(x, kernel, stride):
    return convolution(x, kernel, stride), (x, kernel)


def _convolution_backward(stride, operands, cotangent):
    return jax.vjp(functools.partial(patch_convolution, stride=stride), *operands)[1](cotangent)


convolution.defvjp(_convolution_forward, _convolution_backward)


def _convolution_of_flax(x, kernel, strides, padding, **_):
    """`convolution` with the signature that nn.Conv calls; nothing but its stride is used here."""
    return convolution(x, kernel, strides[0])


class ConvEncoder(nn.Module):
    """Convolutions without padding, each followed by relu; bytes are scaled to [0, 1].

    With `layer_norm`, the channels of every pixel are normalised before the relu.
    """

    channels: Sequence[int] = (32, 64, 64)
    kernels: Sequence[int] = (8, 4, 3)
    strides: Sequence[int] = (4, 2, 1)
    layer_norm: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """obs: [T, B, height, width, channels], or without channels, uint8 or float. Returns [T, B, d]."""
        x = obs.astype(jnp.float32) / 255.0 if obs.dtype == jnp.uint8 else obs
        x = x.reshape(-1, *obs.shape[2:], *(1,) * (5 - obs.ndim))  # flax's convolution takes one batch axis
        for channels, kernel, stride in zip(self.channels, self.kernels, self.strides, strict=True):
            x = nn.Conv(
                channels,
                (kernel, kernel),
                (stride, stride),
                padding="VALID",
                kernel_init=orthogonal(np.sqrt(2)),
                conv_general_dilated=_convolution_of_flax if jax.default_backend() == "cpu" else None,
            )(x)
            x = nn.relu(nn.LayerNorm()(x) if self.layer_norm else x)
        return x.reshape(*obs.shape[:2], -1)
