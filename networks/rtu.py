"""RTU, recurrent trace units (Elelimy et al., 2024, arXiv 2409.01449): rotations that decay, in real numbers.

    r = exp(-exp(nu_log))    theta = exp(theta_log)    g = r cos theta    phi = r sin theta
    w = sqrt(1 - r^2) + 1e-8                           the states of white noise then have variance 1
    c1_t = g c1 - phi c2 + w W_1 u_t        c2_t = g c2 + phi c1 + w W_2 u_t        on the right c = keep_t c_{t-1}
    linear:     y_t = act([c1_t; c2_t]);    the carry is c before act
    nonlinear:  the carry that enters the next step is y_t itself

The released layers carry the traces of real-time recurrent learning. Their values are these; the gradient here is
backpropagation through the segment, as for every other core.

Plain form: what esraaelelimy/rtus b10d4fea computes (MIT), in tests/golden_modern.
"""

import functools
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.blocks import Block, FeedForwardPart, LayerNorm, Stack
from networks.complex_pairs import Pair, pair_recurrence, polar, times
from networks.layers import Dense, lecun_columns
from networks.lru import phase_init, ring_init

Update = Literal["linear", "nonlinear"]
Activation = Literal["tanh", "relu"]
EPSILON = 1e-8
ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu}


class Units(nn.Module):
    """The recurrence: [T, ..., d] to [T, ..., 2 n]."""

    n: int
    update: Update = "linear"
    activation: Activation = "tanh"

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Pair:
        zeros = jnp.zeros((*batch_shape, self.n))
        return Pair(zeros, zeros)

    @nn.compact
    def __call__(self, carry: Pair, x: jax.Array, keep: jax.Array) -> tuple[Pair, jax.Array]:
        """carry: pair of [..., n]; x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., 2 n])."""
        act = ACTIVATIONS[self.activation]
        nu_log = self.param("nu_log", ring_init(0.0, 1.0), (self.n,))
        theta_log = self.param("theta_log", phase_init(6.28), (self.n,))
        decay = polar(jnp.exp(-jnp.exp(nu_log)), jnp.exp(theta_log))
        w = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(nu_log))) + EPSILON  # 1 - r^2 would cancel near r = 1
        projected = Dense(2 * self.n, use_bias=False, kernel_init=lecun_columns(2), name="input")(x)
        updates = Pair(*(w * part for part in jnp.split(projected, 2, axis=-1)))
        keep = keep[..., None]
        if self.update == "linear":
            states = pair_recurrence(Pair(keep * decay.re, keep * decay.im), updates, carry)
            outputs = Pair(*map(act, states))
        else:

            def step(state, inputs):
                update, keep = inputs
                turned = times(decay, Pair(keep * state.re, keep * state.im))
                state = Pair(act(turned.re + update.re), act(turned.im + update.im))
                return state, state

            carry = Pair(*(x.astype(updates.re.dtype) for x in carry))
            states = outputs = jax.lax.scan(step, carry, (updates, keep))[1]
        return jax.tree.map(lambda x: x[-1], states), jnp.concatenate(outputs, axis=-1)


class Mixer(nn.Module):
    """The units, and back to the width of a block."""

    d_model: int
    n: int
    update: Update
    activation: Activation

    def setup(self):
        self.units = Units(self.n, self.update, self.activation)
        self.project = Dense(self.d_model)

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Pair:
        return Units(self.n, parent=None).initialize_carry(batch_shape)

    def __call__(self, carry: Pair, x: jax.Array, keep: jax.Array) -> tuple[Pair, jax.Array]:
        """x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d_model])."""
        carry, outputs = self.units(carry, x, keep)
        return carry, self.project(outputs)


class RTU(Stack):
    """Stack of blocks of recurrent trace units with LayerNorm and a feed-forward part.

    The released networks have one layer, no norm and no residual connection.
    """

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    d_state: int = 128
    """units, each of two numbers"""
    d_ffc: int = 256
    """width of the feed-forward part"""
    update: Update = "linear"
    """linear: the activation reads the state; nonlinear: it acts on the state"""
    activation: Activation = "tanh"
    """tanh or relu"""

    @nn.nowrap
    def block(self, **flax: Any) -> Block:
        mixer = functools.partial(Mixer, self.d_model, self.d_state, self.update, self.activation)
        return Block(mixer, LayerNorm, functools.partial(FeedForwardPart, self.d_ffc), **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return LayerNorm()


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of esraaelelimy/rtus: `RealTimeLinearRTUsLayer` and `RealTimeNonLinearRTUsLayer`, their values. See
    networks.reference_mixers."""
    activation = settings["activation"]
    if activation not in get_args(Activation):
        raise ValueError(f"rtu: settings.activation={activation!r}: must be tanh or relu")
    if (epsilon := settings.get("norm_eps", EPSILON)) != EPSILON:
        raise ValueError(f"rtu: settings.norm_eps={epsilon}: must be {EPSILON}")
    kind = "RealTimeLinearRTUs" if settings["linear"] else "RealTimeNonLinearRTUs"
    prefix = f"params/{kind}_0.Fwd{kind}_0."
    params = {
        "nu_log": arrays[f"{prefix}r_param"].reshape(-1),
        "theta_log": arrays[f"{prefix}theta_param"].reshape(-1),
        "input": {"kernel": np.concatenate([arrays[f"{prefix}wx{i}.kernel"] for i in (1, 2)], axis=-1)},
    }
    units = Units(settings["n_hidden"], "linear" if settings["linear"] else "nonlinear", activation)
    return units, params, settings["d_input"]
