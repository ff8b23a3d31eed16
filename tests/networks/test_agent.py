"""The agent around the core."""

import re
from types import SimpleNamespace

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import networks
from networks.agent import ActorCritic, action_for_env, make_agent
from networks.encoders import ConvEncoder, MLPEncoder
from networks.heads import CategoricalHead, GaussianHead, ValueHead, bounded, policy_metrics
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


# Spaces


def settings(**changes):
    """The fields of a Config that an agent is built from."""
    values = dict(core={"name": "feedforward", "d_model": 4}, encoder_widths=(), head_activation="tanh")
    values |= dict(conv_channels=(4, 4), conv_kernels=(4, 3), conv_strides=(2, 1), actor_hidden=4, critic_hidden=4)
    return SimpleNamespace(**values | dict(head_scale=1.0, actor_scale=1.0, critic_scale=1.0) | changes)


@pytest.mark.parametrize(
    "low, high, dtype, shape, image",
    [
        (0, 255, jnp.uint8, (12, 12, 3), True),
        (0, 255, jnp.uint8, (12, 12), True),
        (0, 1, jnp.float32, (12, 12, 3), True),
        (0, 2, jnp.float32, (12, 12, 3), False),
        (0, 1, jnp.float32, (4, 4, 3), False),  # planes of a board game: smaller than the kernels take
        (0, 1, jnp.float32, (12, 12), False),
        (0, 255, jnp.uint8, (12,), False),
    ],
)
def test_bytes_and_floats_in_0_to_1_with_rows_and_columns_are_images(low, high, dtype, shape, image):
    agent = make_agent(settings(), spaces.Box(low, high, shape, dtype), spaces.Discrete(2))
    assert isinstance(agent.encoder, ConvEncoder if image else MLPEncoder)
    obs, resets = jnp.ones((1, 2, *shape), dtype), jnp.zeros((1, 2), bool)
    carry = agent.initialize_carry((2,))
    _, _, value = agent.apply(agent.init(jax.random.key(0), carry, obs, resets), carry, obs, resets)
    assert value.shape == (1, 2)


def test_channels_first_are_refused_by_a_line_that_names_the_order_of_axes():
    with pytest.raises(ValueError, match=r"3 x 64 x 64, which are taken as \[height, width, channels\]"):
        make_agent(settings(), spaces.Box(0, 255, (3, 64, 64), jnp.uint8), spaces.Discrete(2))


@pytest.mark.parametrize(
    "low, high, drawn, received",
    [
        (-1.0, 1.0, [-3.0, -0.3, 0.7, 3.0], [-1.0, -0.3, 0.7, 1.0]),
        (0.0, 200.0, [-1.0, 0.0, 0.5, 2.0], [0.0, 100.0, 150.0, 200.0]),
        (-100.0, 100.0, [-0.5, 0.0, 0.5, 9.0], [-50.0, 0.0, 50.0, 100.0]),
        (-np.inf, np.inf, [-3.0, 0.0, 0.5, 200.0], [-3.0, 0.0, 0.5, 200.0]),
        (0.0, np.inf, [-3.0, 0.0, 0.5, 200.0], [0.0, 0.0, 0.5, 200.0]),
        (-3.4e38, 3.4e38, [-3.0, 0.0, 0.5, 200.0], [-3.0, 0.0, 0.5, 200.0]),
    ],
)
def test_a_finite_range_is_mapped_from_minus_one_to_one(low, high, drawn, received):
    to_env = action_for_env(spaces.Box(low, high, (4,)))
    np.testing.assert_array_equal(to_env(jnp.array([drawn])), np.array([received], np.float32))


def test_ranges_are_mapped_entry_by_entry_and_get_the_spaces_shape():
    space = spaces.Box(np.array([[0.0], [-np.inf]]), np.array([[10.0], [np.inf]]), (2, 1))
    np.testing.assert_array_equal(action_for_env(space)(jnp.array([[0.5, 7.0]])), [[[7.5], [7.0]]])


def test_a_deviation_at_its_bound_still_has_the_gradient_that_leads_back():
    for x, out, inwards in ((6.0, 1.0, 1.0), (-20.0, -10.0, -1.0)):
        assert bounded(jnp.float32(x), -10.0, 1.0) == out
        slope = jax.grad(lambda x, sign: sign * bounded(x, -10.0, 1.0))
        assert slope(x, inwards) == inwards and slope(x, -inwards) == 0
    assert jax.grad(lambda x: 3 * bounded(x, -10.0, 1.0))(0.3) == 3


def test_the_deviation_is_bounded_near_the_range_where_there_is_one():
    ranged, free = (make_agent(settings(), spaces.Box(0, 1, (2,)), spaces.Box(*bounds, (1,))).actor
                    for bounds in ((0.0, 200.0), (-np.inf, np.inf)))  # fmt: skip
    assert ranged.log_std_max == 1.0 and free.log_std_max == 4.0


def test_what_is_measured_of_a_policy_depends_on_its_kind():
    gaussian = distrax.MultivariateNormalDiag(jnp.zeros((3, 2)), jnp.full((3, 2), 0.5))
    assert float(policy_metrics(gaussian)["std"]) == 0.5
    assert policy_metrics(distrax.Categorical(jnp.zeros((3, 2)))).keys() == {"entropy"}
