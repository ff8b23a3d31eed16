"""Cores in code that knows nothing of the trainers here."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import networks
from tests.marks import around_every_core
from tests.networks.cases import assert_close, segment, small


class Tagger(nn.Module):
    """Somebody's model: labels every step of a sequence."""

    core: nn.Module

    @nn.compact
    def __call__(self, inputs):
        resets = jnp.zeros(inputs.shape[:2], bool)
        _, x = self.core(self.core.initialize_carry(inputs.shape[1:2]), inputs, resets)
        return nn.Dense(1)(x)[..., 0]


@around_every_core("name")
def test_trains_inside_another_module(name):
    model = Tagger(small(name).clone(d_model=8))
    inputs, _ = segment(0, 12, (8,), jnp.float32)
    targets = jnp.cumsum(inputs[..., 0], axis=0) * 0.2
    params = jax.jit(model.init)(jax.random.key(0), inputs)
    optimizer = optax.adam(2e-2)

    def loss(params):
        return jnp.mean((model.apply(params, inputs) - targets) ** 2)

    def step(state, _):
        params, opt_state = state
        value, gradient = jax.value_and_grad(loss)(params)
        changes, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, changes), opt_state), value

    _, losses = jax.jit(lambda s: jax.lax.scan(step, s, length=40))((params, optimizer.init(params)))
    assert losses[-1] < 0.8 * losses[0]


class RunningMean(nn.Module):
    """The README's example of a core of one's own."""

    d_model: int = 8

    @nn.nowrap
    def initialize_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, self.d_model))

    @nn.compact
    def __call__(self, carry, inputs, resets):
        def step(carry, x):
            y, reset = x
            carry = 0.9 * jnp.where(reset[..., None], 0.0, carry) + 0.1 * y
            return carry, carry

        return jax.lax.scan(step, carry, (nn.Dense(self.d_model)(inputs), resets))


def test_a_new_core_needs_only_its_registration(monkeypatch):
    monkeypatch.setitem(networks.CORES, "running_mean", RunningMean)
    core = networks.make_core("running_mean", d_model=3)
    inputs, resets = segment(0, 8, (2,), jnp.float32)
    carry = core.initialize_carry((2,))
    params = core.init(jax.random.key(0), carry, inputs, resets)
    middle, first = core.apply(params, carry, inputs[:3], resets[:3])
    _, second = core.apply(params, middle, inputs[3:], resets[3:])
    assert_close(core.apply(params, carry, inputs, resets)[1], jnp.concatenate([first, second]), 1e-5)
