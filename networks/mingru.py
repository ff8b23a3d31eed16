"""minGRU (Feng et al., 2024, arXiv 2410.01201): a GRU whose gates do not see the state, so that time is one scan.

    h~_t = g(W_h u_t)      z_t = sigmoid(W_z u_t + b_z)      g(x) = x + 0.5 if x >= 0 else sigmoid(x)
    h_t  = keep_t (1 - z_t) h_{t-1} + z_t h~_t               y_t = W_o h_t

b_z is a departure: with the paper's 0 the memory starts with a half-life of one step. Here z starts near 1 / tau
with log tau evenly spread over 2 .. horizon, one per channel; a horizon of 1 or 2 is the paper's start.
The states stay between 0 and the largest h~, so nothing needs the log domain of the released code.

Plain form: what minGRU-pytorch 0.2.1 computes (MIT), in tests/golden_modern.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.blocks import Block, FeedForwardPart, RMSNorm, Stack, fan_in_uniform
from networks.layers import Dense, bias_of_time_constants
from networks.recurrence import default_form, linear_recurrence


def positive(x: jax.Array) -> jax.Array:
    """g: a positive, continuous and increasing function."""
    return jnp.where(x >= 0, x + 0.5, nn.sigmoid(x))


class Mixer(nn.Module):
    """The recurrence between its projections."""

    d_model: int
    d_inner: int
    horizon: int = 1

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> jax.Array:
        return jnp.zeros((*batch_shape, self.d_inner))

    @nn.compact
    def __call__(self, carry: jax.Array, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, jax.Array]:
        """carry: [..., d_inner]; x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d_model])."""

        def dense(width, name):
            return Dense(width, use_bias=False, kernel_init=fan_in_uniform, name=name)

        candidate, gate = jnp.split(dense(2 * self.d_inner, "candidate_gate")(x), 2, axis=-1)
        gate += self.param("bias_z", self.bias_init, (self.d_inner,))
        decay = keep[..., None] * nn.sigmoid(-gate)  # 1 - z without cancellation
        update = nn.sigmoid(gate) * positive(candidate)
        hidden = linear_recurrence(decay, update, carry.astype(update.dtype), default_form())
        return hidden[-1], dense(self.d_model, "project")(hidden)

    def bias_init(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        (width,) = shape
        return jnp.asarray(bias_of_time_constants(self.horizon, width), dtype)


class MinGRU(Stack):
    """Stack of minGRU blocks with RMSNorm and a feed-forward part."""

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    d_inner: int = 192
    """width of the state"""
    d_ffc: int = 256
    """width of the feed-forward part"""
    horizon: int = 128
    """longest time constant at the start, in steps; 1: the paper's start"""

    @nn.nowrap
    def block(self, **flax: Any) -> Block:
        mixer = functools.partial(Mixer, self.d_model, self.d_inner, self.horizon)
        return Block(mixer, functools.partial(RMSNorm, None), _ff(self.d_ffc), **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return RMSNorm(None)


def _ff(d_ffc):
    return functools.partial(FeedForwardPart, d_ffc, approximate=False, kernel_init=fan_in_uniform)


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of minGRU-pytorch: `minGRU` ("layer") or one layer of `minLM` ("block"). See networks.reference_mixers."""
    d, what = settings["dim"], settings["what"]
    if what not in ("layer", "block"):
        raise ValueError(f"mingru: settings.what={what!r}: must be layer or block")
    prefix = "params/mingru." if what == "block" else "params/"
    d_inner = int(d * settings["expansion"])
    to_out = f"{prefix}to_out.weight"
    bare = d_inner == d and to_out not in arrays  # the official code has no projection then
    params = {
        "candidate_gate": {"kernel": arrays[f"{prefix}to_hidden_and_gate.weight"].T},
        "bias_z": np.zeros(d_inner),
        "project": {"kernel": np.eye(d) if bare else arrays[to_out].T},
    }
    if what == "layer":
        return Mixer(d, d_inner), params, d
    linear_in, linear_out = (
        {"kernel": arrays[f"params/ff.{i}.weight"].T, "bias": arrays[f"params/ff.{i}.bias"]} for i in (0, 2)
    )
    params = {
        "mixer_norm": {"scale": arrays["params/norm.weight"]},
        "mixer": params,
        "ff_norm": {"scale": arrays["params/ff_norm.weight"]},
        "ff": {"in": linear_in, "out": linear_out},
    }
    ff = _ff(int(d * settings["ff_mult"]))
    return Block(functools.partial(Mixer, d, d_inner), functools.partial(RMSNorm, None), ff), params, d
