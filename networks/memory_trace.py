"""Memory traces (Eberhard et al., 2025, arXiv 2503.15200), a control: fixed averages of the past, and an MLP.

    z^r_t = lambda_r keep_t z^r_{t-1} + (1 - lambda_r) e_t        features: all z^r        e_t = E u_t
    episodic:  z^r_t / (1 - lambda_r^n)        n = steps since the reset, this one included

lambda_r = 1 - 2^(-r log2(horizon) / (n_rates - 1)), from 0, the present input, to 1 - 1 / horizon. Nothing of the
memory is learned but E, which makes the carry's width independent of the input's.

Plain form: what onnoeberhard/memory-traces fcfdacc0 computes (MIT), in tests/golden_modern.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.blocks import FeatureCore
from networks.recurrence import default_form, linear_recurrence


class TraceCarry(NamedTuple):
    trace: jax.Array  # z [..., r, d]
    weight: jax.Array | None  # episodic: 1 - lambda^n [..., r, 1], the trace of ones; a counter would stop one day


class Traces(nn.Module):
    """The features: [T, ..., d] to [T, ..., r d], one rate after the other."""

    rates: tuple[float, ...]
    d: int
    episodic: bool = False

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> TraceCarry:
        shape = (*batch_shape, len(self.rates))
        return TraceCarry(jnp.zeros((*shape, self.d)), jnp.zeros((*shape, 1)) if self.episodic else None)

    def __call__(self, carry: TraceCarry, x: jax.Array, keep: jax.Array) -> tuple[TraceCarry, jax.Array]:
        """x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., r d])."""
        rates = jnp.asarray(self.rates, x.dtype)[:, None]
        decay = keep[..., None, None] * rates  # [T, ..., r, 1]

        def trace_of(inputs, initial):
            update = (1 - rates) * inputs[..., None, :]
            return linear_recurrence(decay, update, initial.astype(update.dtype), default_form())

        def flat(features):
            return features.reshape(*x.shape[:-1], len(self.rates) * self.d)

        trace = trace_of(x, carry.trace)
        if not self.episodic:
            return TraceCarry(trace[-1], None), flat(trace)
        weight = trace_of(jnp.ones_like(x[..., :1]), carry.weight)
        return TraceCarry(trace[-1], weight[-1]), flat(trace / weight)


class MemoryTrace(FeatureCore):
    """An MLP on exponential averages of the inputs."""

    n_layers: int = 2
    """layers of the MLP"""
    d_model: int = 128
    """width of a trace and of the MLP"""
    n_rates: int = 4
    """traces, from the present input to the longest average"""
    horizon: int = 128
    """time constant of the longest average, in steps"""
    episodic: bool = False
    """averages over the steps of the episode alone"""

    @nn.nowrap
    def features(self, **flax: Any) -> Traces:
        rungs = max(self.n_rates - 1, 1)
        rates = tuple(1 - 2 ** (-r * math.log2(self.horizon) / rungs) for r in range(self.n_rates))
        return Traces(rates, self.d_model, self.episodic, **flax)


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of onnoeberhard/memory-traces: `Trace`, which has no weights. See networks.reference_mixers."""
    rates, d = settings["lams"], settings["d_input"]
    if not all(0 <= rate < 1 for rate in rates):
        raise ValueError(f"memory_trace: settings.lams={rates}: must be from 0 to below 1")
    return Traces(tuple(rates), d, settings["episodic"]), {}, d
