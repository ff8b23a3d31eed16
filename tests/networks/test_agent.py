"""The agent around the core."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import networks
from networks.agent import ActorCritic
from networks.encoders import ConvEncoder, MLPEncoder
from networks.heads import CategoricalHead, GaussianHead, ValueHead
from tests.networks.cases import case_ids, show, small

HEAD = {"activation": nn.tanh, "hidden_scale": 1.0}
VECTORS = (MLPEncoder((4,)), GaussianHead(4, 3, 1.0, **HEAD), jnp.zeros((3,)))
IMAGES = (ConvEncoder((2,), (3,), (2,)), CategoricalHead(4, 3, 1.0, **HEAD), jnp.zeros((8, 8, 1), jnp.uint8))


def products(core, encoder, actor, obs, length):
    """The products in the program of the agent's gradient on a segment, a line each, as for a GPU."""
    agent = ActorCritic(encoder, core, actor, ValueHead(4, 1.0, **HEAD))
    carry, resets = agent.initialize_carry((2,)), jnp.zeros((length, 2), bool)
    obs = jnp.broadcast_to(obs, (length, 2, *obs.shape))

    def loss(params, carry):
        _, distribution, value = agent.apply(params, carry, obs, resets)
        return distribution.entropy().sum() + value.sum()

    params = jax.eval_shape(agent.init, jax.random.key(0), carry, obs, resets)
    program = jax.jit(jax.grad(loss)).lower(params, carry).as_text()
    lines = re.findall(r"stablehlo\.(?:dot_general|convolution).*", program)
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert len(lines) > len(kernels)  # both passes are among them
    return lines


def in_full(line):
    return re.search(r"HIGHEST\W.*HIGHEST", line) is not None


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("case", case_ids(), ids=show)
def test_every_product_on_a_gpu_is_in_full_precision(monkeypatch, case, length):
    """A GPU by default rounds factors to ten bits, and not alike in acting and in learning."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    core = small(case[0], **dict(case[1]))
    assert all(map(in_full, products(core, *VECTORS, length)))


def test_so_are_convolutions_on_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    lines = products(small("feedforward"), *IMAGES, 5)
    assert any("convolution" in line for line in lines) and all(map(in_full, lines))


@pytest.mark.parametrize("core", networks.CORES)
def test_the_option_of_jax_is_honoured(monkeypatch, core):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with jax.default_matmul_precision("tensorfloat32"):
        assert not any(map(in_full, products(small(core), *VECTORS, 5)))
