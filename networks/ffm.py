"""FFM, fast and forgetful memory (Morad et al., 2023, arXiv 2310.04128).

m rows of memory that decay at rates a_j, each in c columns that turn at frequencies b_k:

    [p; thru; gate] = W u_t + b                      widths m, d, m + d        [i_t; o_t] = sigmoid(gate)
    S_t = keep_t Gamma o S_{t-1} + (p * i_t) 1^T     Gamma_jk = exp(a_j + i b_k)        S complex [m, c]
    y_t = LN(W_mix flat(S_t) + b_mix) * o_t + thru * (1 - o_t)        LN without scale and bias

`thru` is the residual connection, so a block is the memory behind a norm and nothing else. a = -exp(a_log): the
released code clips a, only so that its sum over prefixes does not overflow, and a clip's gradient dies.

Plain form: what proroklab/ffm b3f94d2a computes (MIT), in tests/golden_modern.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.blocks import LayerNorm, Stack, fan_in_uniform
from networks.complex_pairs import Pair, pair_recurrence, polar
from networks.layers import Dense

# The released code's range of a: by its prefix sums over at most 1024 steps in double precision.
A_MIN, A_MAX = -math.log(np.finfo(np.float64).max) / 1024 + 0.01, -1e-8


def torch_dense(width: int, d_in: int, name: str) -> nn.Module:
    """A Dense that starts as torch's Linear."""

    def bias_init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -1 / math.sqrt(d_in), 1 / math.sqrt(d_in))

    return Dense(width, kernel_init=fan_in_uniform, bias_init=bias_init, name=name)


class Mixer(nn.Module):
    """The memory with its gates: [T, ..., d_in] to [T, ..., d_model]."""

    d_model: int
    d_memory: int
    n_contexts: int

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Pair:
        zeros = jnp.zeros((*batch_shape, self.d_memory, self.n_contexts))
        return Pair(zeros, zeros)

    @nn.compact
    def __call__(self, carry: Pair, x: jax.Array, keep: jax.Array) -> tuple[Pair, jax.Array]:
        """carry: pair of [..., m, c]; x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d_model])."""
        d, m, c = self.d_model, self.d_memory, self.n_contexts

        def a_log_init(key):
            return jnp.asarray(np.log(-np.linspace(A_MIN + 0.01, math.log(0.01) / 1024, m)), jnp.float32)

        def b_init(key):
            return jnp.asarray(2 * np.pi / np.linspace(1, 1024, c), jnp.float32)

        Gamma = polar(jnp.exp(-jnp.exp(self.param("a_log", a_log_init)))[:, None], self.param("b", b_init))
        projected = torch_dense(2 * m + 2 * d, x.shape[-1], "input")(x)
        p, thru, gate_in, gate_out = jnp.split(projected, np.cumsum([m, d, m]), axis=-1)
        update = jnp.broadcast_to((p * nn.sigmoid(gate_in))[..., None], (*p.shape, c))
        keep = keep[..., None, None]
        decay = Pair(keep * Gamma.re, keep * Gamma.im)  # [T, ..., m, c]
        states = pair_recurrence(decay, Pair(update, jnp.zeros_like(update)), carry)
        flat = jnp.stack(states, axis=-1).reshape(*p.shape[:-1], 2 * m * c)
        mixed = LayerNorm(use_scale=False, use_bias=False)(torch_dense(d, 2 * m * c, "mix")(flat))
        o = nn.sigmoid(gate_out)
        return jax.tree.map(lambda x: x[-1], states), mixed * o + thru * (1 - o)


class NormedMixer(nn.Module):
    """A block: the memory behind a LayerNorm."""

    d_model: int
    d_memory: int
    n_contexts: int

    def setup(self):
        self.norm = LayerNorm()
        self.mixer = Mixer(self.d_model, self.d_memory, self.n_contexts)

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Pair:
        return Mixer(self.d_model, self.d_memory, self.n_contexts, parent=None).initialize_carry(batch_shape)

    def __call__(self, carry: Pair, x: jax.Array, keep: jax.Array) -> tuple[Pair, jax.Array]:
        return self.mixer(carry, self.norm(x), keep)


class FFM(Stack):
    """Stack of fast and forgetful memories; the released networks have one."""

    n_layers: int = 1
    """memories, one on the other"""
    d_model: int = 256
    """width of inputs and outputs of a memory"""
    d_memory: int = 32
    """rows of memory, each with its own decay"""
    n_contexts: int = 4
    """columns of memory, complex numbers each with its own frequency"""

    @nn.nowrap
    def block(self, **flax: Any) -> NormedMixer:
        return NormedMixer(self.d_model, self.d_memory, self.n_contexts, **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return LayerNorm()


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of proroklab/ffm: `FFM`. See networks.reference_mixers."""
    context = settings["context_size"]
    if context % 2:
        raise ValueError(f"ffm: settings.context_size={context}: must be even")
    if (epsilon := settings.get("ln_eps", 1e-5)) != 1e-5:
        raise ValueError(f"ffm: settings.ln_eps={epsilon}: must be 1e-5")
    a = np.clip(arrays["params/ffa.a"].reshape(-1), settings.get("a_min", A_MIN), settings.get("a_max", A_MAX))
    params = {
        "a_log": np.log(-a),
        "b": arrays["params/ffa.b"].reshape(-1),
        "input": {"kernel": arrays["params/pre.weight"].T, "bias": arrays["params/pre.bias"]},
        "mix": {"kernel": arrays["params/mix.weight"].T, "bias": arrays["params/mix.bias"]},
    }
    mixer = Mixer(settings["output_size"], settings["memory_size"], context // 2)
    return mixer, params, settings["input_size"]
