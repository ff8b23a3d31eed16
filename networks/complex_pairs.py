"""Complex numbers as pairs of reals, and x_t = a_t x_{t-1} + u_t over them.

Parameters, carries and what a program exchanges with the outside stay real: optimiser states, checkpoints and
exported policies need not know of complex numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from networks.recurrence import default_form, linear_recurrence


class Pair(NamedTuple):
    """re + i im; both of one shape, or of shapes that broadcast."""

    re: jax.Array
    im: jax.Array


def times(a: Pair, b: Pair) -> Pair:
    return Pair(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)


def polar(radius: jax.Array, angle: jax.Array) -> Pair:
    return Pair(radius * jnp.cos(angle), radius * jnp.sin(angle))


def pair_recurrence(decay: Pair, update: Pair, initial: Pair) -> Pair:
    """All states of x_t = decay_t x_{t-1} + update_t.

    Args:
        decay: [T, ...], broadcastable to update (axes of size 1 allowed).
        update: [T, ...].
        initial: x_{-1} [...].

    Returns:
        [T, ...], the states x_0 .. x_{T-1}.
    """
    if update.re.shape[0] == 1:
        product = times(decay, initial)
        return Pair(product.re + update.re, product.im + update.im)
    # One complex scan: shorter than a scan over pairs, as fast, and an associative one compiles four times sooner.
    initial = jax.lax.complex(initial.re.astype(update.re.dtype), initial.im.astype(update.im.dtype))
    states = linear_recurrence(jax.lax.complex(*decay), jax.lax.complex(*update), initial, default_form())
    return Pair(states.real, states.imag)
