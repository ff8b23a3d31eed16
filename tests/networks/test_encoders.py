"""Encoders: convolutions against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.encoders import ConvEncoder, convolution, patch_convolution


def plain(x, kernel, stride):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=dimensions)


# The second and third leave a remainder of rows and columns that no patch covers.
@pytest.mark.parametrize(
    ("side", "size", "stride"),
    [pytest.param(20, 8, 4, marks=pytest.mark.slow), (11, 4, 2), (12, 3, 5), (7, 3, 1), (4, 4, 2)],
)
def test_outputs_and_gradients_of_a_convolution_are_those_of_xla(side, size, stride):
    x = jax.random.normal(jax.random.key(0), (2, side, side + 3, 5))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 5, 6))
    expected, pull_back = jax.vjp(lambda *args: plain(*args, stride), x, kernel)
    cotangent = jax.random.normal(jax.random.key(2), expected.shape)
    for form in (convolution, patch_convolution):
        outputs, pull_back_ours = jax.vjp(lambda *args, form=form: form(*args, stride), x, kernel)
        np.testing.assert_allclose(outputs, expected, atol=1e-4)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-4),
            pull_back_ours(cotangent),
            pull_back(cotangent),
        )


def test_the_encoder_is_flax_convolutions_with_relu(monkeypatch):
    obs = jax.random.randint(jax.random.key(0), (2, 3, 20, 20, 3), 0, 256).astype(jnp.uint8)
    encoder = ConvEncoder((4, 6), (4, 3), (2, 1))
    params = encoder.init(jax.random.key(1), obs)
    outputs = encoder.apply(params, obs)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where flax's own convolution is used
    np.testing.assert_allclose(outputs, encoder.apply(params, obs), atol=1e-5)
    assert outputs.shape == (2, 3, 7 * 7 * 6)
