"""The first-order linear recurrence x_t = a_t x_{t-1} + u_t, with its gradient written out."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

Form = Literal["sequential", "associative"]


def default_form() -> Form:
    """Sequential on CPU, where a small loop body stays in cache; associative on accelerators, where a loop of
    T short kernels would be bound by launches."""
    return "sequential" if jax.default_backend() == "cpu" else "associative"


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def linear_recurrence(decay: jax.Array, update: jax.Array, initial: jax.Array, form: Form) -> jax.Array:
    """All states of x_t = decay_t * x_{t-1} + update_t.

    Args:
        decay: [T, ...], broadcastable to update (axes of size 1 allowed).
        update: [T, ...].
        initial: x_{-1}, of update's shape without T.
        form: "sequential" (lax.scan) or "associative" (lax.associative_scan); both give the same states.

    Returns:
        [T, ...], the states x_0 .. x_{T-1}.

    The gradient is a recurrence of the same kind, backwards in time: with g_t the cotangent of x_t,
    lambda_t = g_t + decay_{t+1} lambda_{t+1};  d update_t = lambda_t;  d decay_t = lambda_t x_{t-1}.
    Written out, it stores nothing but the states, where the transpose of a scan would store every
    intermediate of its body.
    """
    return _states(decay, update, initial, form)


def _states(decay, update, initial, form, reverse=False):
    if form == "sequential":

        def step(x, decay_update):
            x = decay_update[0] * x + decay_update[1]
            return x, x

        return jax.lax.scan(step, initial, (decay, update), reverse=reverse)[1]

    def compose(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    start = -1 if reverse else 0
    update = update.at[start].add(decay[start] * initial)
    decay = jnp.broadcast_to(decay, update.shape)
    return jax.lax.associative_scan(compose, (decay, update), reverse=reverse)[1]


def _forward(decay, update, initial, form):
    states = _states(decay, update, initial, form)
    return states, (decay, states, initial)


def _backward(form, residuals, cotangent):
    decay, states, initial = residuals
    next_decay = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
    adjoint = _states(next_decay, cotangent, jnp.zeros_like(initial), form, reverse=True)
    previous = jnp.concatenate([initial[None], states[:-1]])
    broadcast_axes = tuple(i for i, size in enumerate(decay.shape) if size != states.shape[i])
    return jnp.sum(adjoint * previous, broadcast_axes, keepdims=True), adjoint, decay[0] * adjoint[0]


linear_recurrence.defvjp(_forward, _backward)
