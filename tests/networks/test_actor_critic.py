"""The agent around the core."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import networks
from networks.actor_critic import ActorCritic
from networks.encoders import ConvEncoder, MLPEncoder
from networks.heads import CategoricalHead, ValueHead
from tests.networks.cases import small


@pytest.mark.parametrize("core", networks.CORES)
@pytest.mark.parametrize("image", [False, True])
def test_every_product_on_a_gpu_is_in_full_precision(monkeypatch, core, image):
    """It rounds the factors of others to ten bits, and not alike in acting and in learning."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    head = {"activation": nn.tanh, "hidden_scale": 1.0}
    agent = ActorCritic(
        encoder=ConvEncoder((2,), (3,), (2,)) if image else MLPEncoder((4,)),
        core=small(core),
        actor=CategoricalHead(4, 3, 1.0, **head),
        critic=ValueHead(4, 1.0, **head),
    )
    carry, resets = agent.initialize_carry((2,)), jnp.zeros((5, 2), bool)
    obs = jnp.zeros((5, 2, 8, 8, 1), jnp.uint8) if image else jnp.zeros((5, 2, 3))

    def loss(params, carry):
        _, distribution, value = agent.apply(params, carry, obs, resets)
        return distribution.entropy().sum() + value.sum()

    params = jax.eval_shape(agent.init, jax.random.key(0), carry, obs, resets)
    program = jax.jit(jax.grad(loss)).lower(params, carry).as_text()
    products = re.findall(r"stablehlo\.(?:dot_general|convolution).*", program)
    assert len(products) > 4
    assert [line for line in products if not re.search(r"HIGHEST\W.*HIGHEST", line)] == []
